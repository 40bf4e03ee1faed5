"""
Images seen from elsewhere: the content stays, and each pixel meets other weights of the model.
"""

from torch import Tensor
from torch.nn import functional

__all__ = ["mirrored", "moved"]

# as a share of each side
_FAR = 0.06


def moved(x: Tensor) -> Tensor:
    """
    :param x: images, :math:`B \\times C \\times H \\times W`
    :return: moved down and to the right by 6 % of their sides, at least a pixel; what comes in is
        the border's reflection
    """
    height, width = x.shape[2:]
    down, right = (min(max(1, round(_FAR * side)), side - 1) for side in (height, width))
    padded = functional.pad(x, (right, 0, down, 0), mode="reflect")
    return padded[:, :, :height, :width]


def mirrored(x: Tensor) -> Tensor:
    """
    :param x: images, :math:`B \\times C \\times H \\times W`
    :return: left and right exchanged
    """
    return x.flip(3)
