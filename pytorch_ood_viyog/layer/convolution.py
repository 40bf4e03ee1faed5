"""
What a convolution is: its classes, its kernel without groups, its padding.
"""

from torch import Tensor
from torch.nn import Conv1d, Conv2d, Conv3d

__all__ = [
    "CONVOLUTIONS",
    "Convolution",
    "as_convolution",
    "dense_kernel",
    "maps_shape",
    "padding_of",
]

CONVOLUTIONS = (Conv1d, Conv2d, Conv3d)


Convolution = Conv1d | Conv2d | Conv3d


def dense_kernel(conv: Convolution) -> Tensor:
    """
    The convolution's weights without groups.

    :param conv: the convolution
    :return: kernel of shape :math:`C \\times C_{in} \\times *K`, float64
    """
    weight = conv.weight.detach().double()
    channels, per_group = weight.shape[:2]
    kernel = weight.new_zeros(channels, conv.in_channels, *weight.shape[2:])
    outputs = channels // conv.groups
    for group in range(conv.groups):
        out, into = group * outputs, group * per_group
        kernel[out : out + outputs, into : into + per_group] = weight[out : out + outputs]
    return kernel


def padding_of(conv: Convolution, axis: int) -> int:
    """
    :param conv: the convolution
    :param axis: number of a spatial axis, from 0
    :return: positions that its padding adds before that axis
    """
    if conv.padding == "same":
        return conv.dilation[axis] * (conv.kernel_size[axis] - 1) // 2
    return 0 if conv.padding == "valid" else int(conv.padding[axis])


def as_convolution(layer: object) -> Convolution:
    """
    :param layer: layer that a detector reads
    :return: the layer
    :raises RuntimeError: if it is not a convolution whose weights tell its response
    """
    plain = (Conv1d.forward, Conv2d.forward, Conv3d.forward)
    if not isinstance(layer, CONVOLUTIONS) or type(layer).forward not in plain:
        raise RuntimeError(
            f"The weights of a Conv1d, Conv2d or Conv3d are needed, got a {type(layer).__name__} "
            f"module. Name a convolution by layer=..., or pass it as module."
        )
    return layer


def maps_shape(conv: Convolution, inputs: Tensor) -> tuple[int, ...]:
    """
    :param conv: the convolution
    :param inputs: its input, :math:`B \\times C_{in} \\times *S_{in}`
    :return: shape of its maps, :math:`B \\times C \\times *S`, which are not computed
    """
    sizes = inputs.shape[2:]
    if conv.padding == "same":
        return (inputs.shape[0], conv.out_channels, *sizes)
    padding = [0] * len(sizes) if conv.padding == "valid" else [int(p) for p in conv.padding]
    reaches = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    spatial = [
        (sizes[i] + 2 * padding[i] - reaches[i]) // conv.stride[i] + 1 for i in range(len(sizes))
    ]
    return (inputs.shape[0], conv.out_channels, *spatial)
