"""
Where in a first layer's maps no border is, and what of its input is seen there.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor

from ..layer.linear.effective_convolution import Geometry

__all__ = ["Windows", "extended_kernel"]

# more windows than this tell little more about an image
_MOST_WINDOWS = 1024
# more positions outside of windows tell nothing more about it
_MOST_POSITIONS = 256


def extended_kernel(geometry: Geometry, kernel: Tensor) -> Tensor:
    """
    The kernels that give the maps at a position and at all its neighbours, on the receptive field
    of the whole window of three positions along each axis, without dilation.

    :param geometry: stride and dilation of the layer
    :param kernel: :math:`M \\times C_{in} \\times *K`, read at this dilation
    :return: :math:`M \\cdot 3^d \\times C_{in} \\times *E` with
        :math:`E = dilation (K - 1) + 1 + 2 \\cdot stride`; the window's positions vary fastest
    """
    axes = kernel.dim() - 2
    grid = list(zip(geometry.stride, geometry.reaches, geometry.dilation, strict=True))
    sizes = [reach + 2 * stride for stride, reach, _ in grid]
    extended = kernel.new_zeros(kernel.shape[0], 3**axes, kernel.shape[1], *sizes)
    positions = torch.cartesian_prod(*[torch.arange(3)] * axes).reshape(-1, axes).tolist()
    for neighbour, position in enumerate(positions):
        place = extended[:, neighbour]
        for i, (stride, reach, dilation) in enumerate(grid):
            place = place.narrow(i + 2, position[i] * stride, reach)
            place = place.movedim(i + 2, 0)[::dilation].movedim(0, i + 2)
        place.copy_(kernel)
    return extended.flatten(0, 1)


@dataclass(frozen=True)
class Windows:
    """
    Where features are read: windows of three positions along each axis, away from the border
    where padding shows, and on large maps only every ``steps``-th of them. Of the positions that
    are read one by one, every ``spread``-th.

    The last axis has no steps unless it is the only one, so that windows overlap along it and the
    maps they need can be packed.
    """

    #: positions cut off at both ends of each axis
    margins: tuple[int, ...]
    #: distance between windows along each axis
    steps: tuple[int, ...]
    #: distance, in what :meth:`positions` gives, between positions that features are read at
    spread: tuple[int, ...]

    @staticmethod
    def of(geometry: Geometry, shape: tuple[int, ...]) -> "Windows":
        """
        :return: windows clear of the padding of maps of this shape, or all if nothing is clear
        """
        margins = geometry.margins
        if any(size - 2 * margin < 3 for size, margin in zip(shape, margins, strict=True)):
            margins = (0,) * len(shape)
        inner = [size - 2 * margin for size, margin in zip(shape, margins, strict=True)]
        stepped = max(1, len(shape) - 1)
        step = math.ceil((math.prod(inner) / _MOST_WINDOWS) ** (1 / stepped))
        steps = [step if axis < stepped else 1 for axis in range(len(shape))]
        return Windows(margins, tuple(steps), _spread(inner, steps))

    def pack(self, maps: Tensor) -> Tensor:
        """
        Maps, :math:`B \\times C \\times *S`, cut down to what the windows need; these are then
        :attr:`packed_steps` apart. An axis of fewer than three positions is widened by its ends.
        """
        for axis, (margin, step) in enumerate(zip(self.margins, self.steps, strict=True), 2):
            inner = maps.narrow(axis, margin, maps.shape[axis] - 2 * margin)
            if inner.shape[axis] < 3:
                last = inner.shape[axis] - 1
                ends = inner.narrow(axis, 0, 1), inner.narrow(axis, last, 1)
                inner = torch.cat([ends[0], inner, ends[1]], dim=axis)
            maps = inner if step <= 3 else _three_in_each(inner, axis, step)
        return maps

    @property
    def packed_steps(self) -> tuple[int, ...]:
        """Distance between windows along each axis of packed maps."""
        return tuple(min(step, 3) for step in self.steps)

    def count(self, packed: tuple[int, ...]) -> tuple[int, ...]:
        """:return: number of windows along each axis of packed maps of this shape"""
        steps = zip(packed, self.packed_steps, strict=True)
        return tuple((size - 3) // step + 1 for size, step in steps)

    def count_of(self, maps: tuple[int, ...]) -> tuple[int, ...]:
        """:return: number of windows along each axis of maps of this shape"""
        inner = [size - 2 * margin for size, margin in zip(maps, self.margins, strict=True)]
        widened = [size + 2 if size < 3 else size for size in inner]
        return tuple(
            (size - 3) // step + 1 for size, step in zip(widened, self.steps, strict=True)
        )

    def centres(self, positions: Tensor, counts: tuple[int, ...]) -> Tensor:
        """
        Of values at what :meth:`positions` gives, :math:`B \\times M \\times P`, those at the
        centres of windows, :math:`B \\times M \\times *counts`.
        """
        sizes = [n if step > 1 else n + 2 for n, step in zip(counts, self.steps, strict=True)]
        values = positions.reshape(*positions.shape[:2], *sizes)
        for axis, (size, count) in enumerate(zip(sizes, counts, strict=True), 2):
            values = values.narrow(axis, (size - count) // 2, count)
        return values

    def positions(self, packed: Tensor) -> Tensor:
        """
        Of packed maps, or what was computed from them position by position, the positions that are
        read one by one: all along axes without steps, else the centres of the windows.
        """
        steps = zip(self.steps, self.packed_steps, strict=True)
        read = [slice(1, -1, apart) if step > 1 else slice(None) for step, apart in steps]
        return _cut(packed, read)

    def around_positions(self, at_windows: Tensor) -> Tensor:
        """
        Of values of windows, :math:`B \\times *counts`, for each of what :meth:`positions` gives
        that of the window around it, or next to it at the ends.
        """
        for axis, step in enumerate(self.steps, 1):
            if step == 1:
                last = at_windows.shape[axis] - 1
                ends = at_windows.narrow(axis, 0, 1), at_windows.narrow(axis, last, 1)
                at_windows = torch.cat([ends[0], at_windows, ends[1]], dim=axis)
        return at_windows

    def thinned(self, positions: Tensor) -> Tensor:
        """
        Of values at what :meth:`positions` gives, on their axes, those that features are read at.
        """
        return _cut(positions, [slice(None, None, by) for by in self.spread])

    def neighbours(self, packed: Tensor) -> Iterator[Tensor]:
        """
        :return: what packed maps are at the first position of each window, at the second, and so
            on, the last axis varying fastest: :math:`3^d` tensors of the windows' shape
        """
        counts = self.count(tuple(packed.shape[2:]))
        for place in itertools.product(range(3), repeat=len(counts)):
            grid = zip(place, counts, self.packed_steps, strict=True)
            read = [slice(first, first + (n - 1) * step + 1, step) for first, n, step in grid]
            yield _cut(packed, read)

    def positions_field(self, geometry: Geometry, field: Tensor) -> Tensor:
        """:return: of the field that windows see, what :meth:`positions` see"""
        for axis, (step, stride) in enumerate(zip(self.steps, geometry.stride, strict=True), 2):
            if step > 1:
                field = field.narrow(axis, stride, field.shape[axis] - 2 * stride)
        return field

    def input_stride(self, geometry: Geometry) -> tuple[int, ...]:
        """:return: distance between windows on the layer's input, along each axis"""
        return tuple(a * b for a, b in zip(self.steps, geometry.stride, strict=True))

    def field(self, geometry: Geometry, inputs: Tensor) -> Tensor | None:
        """
        :return: the part of the layer's input that the windows see, for :func:`extended_kernel`
            and :meth:`input_stride`; ``None`` if they see padding
        """
        maps = geometry.maps_shape(tuple(inputs.shape[2:]))
        for axis, margin in enumerate(self.margins):
            start = margin * geometry.stride[axis] - geometry.before[axis]
            length = (maps[axis] - 2 * margin - 1) * geometry.stride[axis]
            length += geometry.reaches[axis]
            if start < 0 or maps[axis] - 2 * margin < 3:
                return None
            if start + length > inputs.shape[axis + 2]:
                return None
            inputs = inputs.narrow(axis + 2, start, length)
        return inputs


def _cut(values: Tensor, read: Sequence[slice]) -> Tensor:
    """What is read along each spatial axis, the last ones."""
    index: tuple[EllipsisType | slice, ...] = (..., *read)
    return values[index]


def _three_in_each(values: Tensor, axis: int, step: int) -> Tensor:
    """Along an axis, the first three values of each step; copies of slices take no index."""
    reach = (values.shape[axis] - 3) // step * step + 1
    places = [slice(place, place + reach, step) for place in range(3)]
    parts = [values.movedim(axis, 0)[place].movedim(0, axis) for place in places]
    return torch.stack(parts, dim=axis + 1).flatten(axis, axis + 1)


def _spread(inner: list[int], steps: list[int]) -> tuple[int, ...]:
    """So that few positions are read, along the axes without steps unless all have them."""
    read = zip(inner, steps, strict=True)
    sizes = [size if step == 1 else (size - 3) // step + 1 for size, step in read]
    dense = [step == 1 for step in steps]
    thinned = dense if any(dense) else [True] * len(steps)
    distance = (math.prod(sizes) / _MOST_POSITIONS) ** (1 / sum(thinned))
    return tuple(max(1, round(distance)) if thin else 1 for thin in thinned)
