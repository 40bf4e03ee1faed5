"""
Convolutions whose responses are far smaller than their inputs, without losing them to rounding.
"""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["convolve", "convolve_differences"]


def convolve(
    inputs: Tensor,
    kernel: Tensor,
    stride: tuple[int, ...],
    dilation: tuple[int, ...] | int = 1,
) -> Tensor:
    """:return: the convolution without padding, in the type of ``inputs``"""
    operation = (functional.conv1d, functional.conv2d, functional.conv3d)[len(stride) - 1]
    kernel = kernel.to(inputs.dtype)
    result: Tensor = operation(inputs, kernel, stride=stride, dilation=dilation)
    return result


def convolve_differences(
    inputs: Tensor,
    kernel: Tensor,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    types: tuple[torch.dtype, torch.dtype] | None = None,
) -> Tensor:
    """
    The same convolution by summation by parts, along one axis after the other:

    .. math::
        \\sum_{j=1}^{K} k_j x_j = S_K x_K + \\sum_{j=1}^{K-1} S_j (x_j - x_{j+1}), \\qquad
        S_j = \\sum_{i=1}^{j} k_i

    Rounding errors then are of the size of the differences between neighbours and not of the
    values: where an image is flat, they are nearly none.

    :param inputs: :math:`B \\times C \\times *S`
    :param kernel: :math:`R \\times C \\times *K`, float64
    :param stride: stride along each axis
    :param dilation: dilation along each axis
    :param types: of the differences in their convolution, and of what is added to them,
        :math:`S_K x_K`, where channels cancel each other; default are those of ``inputs``
    :return: the convolution without padding, :math:`B \\times R \\times *S'`
    """
    parts, (smooth, exact) = [], types or (inputs.dtype, inputs.dtype)
    for axis in reversed(range(2, inputs.dim())):
        taps, step, distance = kernel.shape[axis], stride[axis - 2], dilation[axis - 2]
        reach = distance * (taps - 1)
        sums = kernel.cumsum(dim=axis)
        if taps > 1:
            rest = inputs.shape[axis] - distance
            differences = inputs.narrow(axis, 0, rest) - inputs.narrow(axis, distance, rest)
            weights = sums.narrow(axis, 0, taps - 1)
            parts.append(convolve(differences.to(smooth), weights, stride, dilation))
        # what is left reads one value along this axis
        inputs = inputs[(slice(None),) * axis + (slice(reach, None, step),)]
        kernel = sums.narrow(axis, taps - 1, 1)
        stride = (*stride[: axis - 2], 1, *stride[axis - 1 :])
    inputs = inputs.to(exact)
    kernels = kernel.flatten(1).to(inputs).expand(inputs.shape[0], -1, -1)
    total = kernels.bmm(inputs.flatten(2)).unflatten(2, inputs.shape[2:])
    for part in parts:
        total += part
    return total
