"""
What the mathematics needs of a first layer: its kernel, bias and grid, whatever class it is.
"""

import math
from dataclasses import astuple, dataclass
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn import Conv1d, Conv2d, Conv3d, Module
from torch.nn.functional import pad

from ..convolution import CONVOLUTIONS, Convolution
from .precise_convolution import convolve

__all__ = ["EffectiveConvolution", "Geometry", "is_plain"]

_FORWARDS = (Conv1d.forward, Conv2d.forward, Conv3d.forward)
_OPERATIONS = (Conv1d._conv_forward, Conv2d._conv_forward, Conv3d._conv_forward)


def is_plain(layer: Module) -> TypeGuard[Convolution]:
    """
    :return: whether a layer is a ``Conv1d``, ``Conv2d`` or ``Conv3d`` whose weights, bias and
        arguments tell all that it does; subclasses with a forward pass of their own are not
    """
    if not isinstance(layer, CONVOLUTIONS) or "forward" in vars(layer):
        return False
    return type(layer).forward in _FORWARDS and type(layer)._conv_forward in _OPERATIONS


@dataclass(frozen=True)
class Geometry:
    """
    Which part of the input each position of the maps sees: position :math:`q` along an axis reads
    the inputs :math:`q \\cdot stride - before + dilation \\cdot k` for
    :math:`k = 0 \\dots K - 1`. One number for each spatial axis.
    """

    #: :math:`K`, taps of the kernel
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    #: how far the first position reaches beyond the input; negative if it starts inside
    before: tuple[int, ...]
    #: how far the last position may reach beyond the input
    after: tuple[int, ...]
    #: spatial shape of the inputs that it holds for; ``None``: for all
    input_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if min(*self.kernel_size, *self.stride, *self.dilation) < 1:
            raise ValueError(
                f"The geometry of a layer must have kernel_size, stride and dilation of at least "
                f"1, got {self.kernel_size}, {self.stride} and {self.dilation}."
            )

    @staticmethod
    def of(conv: Convolution) -> "Geometry":
        """:return: the geometry of a plain convolution, for inputs of any shape"""
        reaches = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        before = after = (0,) * len(reaches)
        if conv.padding == "same":
            before = tuple(reach // 2 for reach in reaches)
            after = tuple(reach - reach // 2 for reach in reaches)
        elif conv.padding != "valid":
            before = after = tuple(int(size) for size in conv.padding)
        return Geometry(conv.kernel_size, conv.stride, conv.dilation, before, after)

    @staticmethod
    def from_tensor(rows: Tensor) -> "Geometry":
        """
        :return: the geometry that :meth:`to_tensor` gave
        :raises ValueError: if no layer has it
        """
        size, stride, dilation, before, after, shape = (tuple(row) for row in rows.tolist())
        return Geometry(size, stride, dilation, before, after, shape if all(shape) else None)

    def to_tensor(self) -> Tensor:
        """:return: int64 of shape :math:`6 \\times d`, a row for each field, on the CPU"""
        *fields, input_shape = astuple(self)
        return torch.tensor([*fields, input_shape or (0,) * len(self.stride)])

    @property
    def reaches(self) -> tuple[int, ...]:
        """Extent of the kernel on the input, :math:`dilation (K - 1) + 1`."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True))

    @property
    def margins(self) -> tuple[int, ...]:
        """Positions at either end of each axis of the maps that may see beyond the input."""
        sides = zip(self.before, self.after, self.stride, strict=True)
        return tuple(max(0, math.ceil(max(b, a) / s)) for b, a, s in sides)

    def maps_shape(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """:return: spatial shape of the maps of inputs of a spatial shape"""
        sizes = zip(inputs, self.before, self.after, self.reaches, self.stride, strict=True)
        return tuple((n + b + a - reach) // s + 1 for n, b, a, reach, s in sizes)

    def interior(self, inputs: tuple[int, ...]) -> tuple[range, ...]:
        """:return: the positions of the maps that see the input alone, along each axis"""
        shape, found = self.maps_shape(inputs), []
        for axis, (size, stride) in enumerate(zip(inputs, self.stride, strict=True)):
            first = max(0, math.ceil(self.before[axis] / stride))
            last = (size - self.reaches[axis] + self.before[axis]) // stride
            found.append(range(first, min(last, shape[axis] - 1) + 1))
        return tuple(found)


@dataclass(frozen=True)
class EffectiveConvolution:
    """
    An affine and, away from the border, shift-equivariant layer: what it does to inputs that it
    sees entirely is this convolution.
    """

    #: without groups, :math:`C \\times C_{in} \\times *K`, float64
    kernel: Tensor
    #: shape :math:`C`, float64
    bias: Tensor
    geometry: Geometry

    @staticmethod
    def of(conv: Convolution) -> "EffectiveConvolution":
        """:return: weights and arguments of a plain convolution"""
        weight = conv.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
        return EffectiveConvolution(_without_groups(weight, conv.groups), bias, Geometry.of(conv))

    @property
    def in_channels(self) -> int:
        """Number :math:`C_{in}` of channels of the input."""
        return self.kernel.shape[1]

    def inside(self, inputs: Tensor) -> Tensor:
        """
        :param inputs: the layer's input, :math:`B \\times C_{in} \\times *S_{in}`
        :return: its maps at the positions of :meth:`Geometry.interior`, in the type of ``inputs``
        """
        geometry = self.geometry
        for axis, positions in enumerate(geometry.interior(tuple(inputs.shape[2:]))):
            start = positions.start * geometry.stride[axis] - geometry.before[axis]
            length = (len(positions) - 1) * geometry.stride[axis] + geometry.reaches[axis]
            inputs = inputs.narrow(axis + 2, start, length)
        return self._convolved(inputs)

    def maps(self, inputs: Tensor) -> Tensor:
        """
        :param inputs: the layer's input, :math:`B \\times C_{in} \\times *S_{in}`
        :return: maps of the layer's shape, in the type of ``inputs``; those at the border are of
            inputs continued by zeros
        """
        sides = zip(reversed(self.geometry.before), reversed(self.geometry.after), strict=True)
        return self._convolved(pad(inputs, [size for side in sides for size in side]))

    def _convolved(self, field: Tensor) -> Tensor:
        kernel, geometry = self.kernel.to(field.device), self.geometry
        maps = convolve(field, kernel, geometry.stride, geometry.dilation)
        return maps + self.bias.to(maps).view(-1, *[1] * len(geometry.stride))


def _without_groups(weight: Tensor, groups: int) -> Tensor:
    parts = weight.reshape(groups, -1, *weight.shape[1:])
    kernel = parts.new_zeros(groups, groups, *parts.shape[1:])  # of each group, into each
    kernel[range(groups), range(groups)] = parts
    return kernel.movedim(1, 2).flatten(2, 3).flatten(0, 1)
