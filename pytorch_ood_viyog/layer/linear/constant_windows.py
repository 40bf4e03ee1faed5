"""
Where an image is constant: bars of a letterbox, borders cut to black, padding. No camera leaves
that, and it says nothing of a residue.
"""

import math
from collections.abc import Sequence
from functools import reduce
from types import EllipsisType

import torch
from torch import Tensor

__all__ = ["constant", "everywhere", "if_any", "without"]

# values of a window that differ by less, a twentieth of an 8-bit step, are the same: rounding of
# maps, not of images
_SAME = 0.05 / 255
# places along an axis of a window that are compared
_COMPARED = 6
# share of the windows that must not be constant, and fewest of them, to read an image at all
_LEAST, _FEWEST = 0.1, 4
# share of the windows of which it is faster to look at all
_FEW = 0.1

#: number of windows along each axis, and distance from one to the next
Grid = list[tuple[int, int]]


def constant(field: Tensor, scale: Tensor, sizes: Sequence[int], strides: Sequence[int]) -> Tensor:
    """
    :param field: the part of the layer's input that the windows see,
        :math:`B \\times C_{in} \\times *S`
    :param scale: dynamic range of each channel
    :param sizes: of a window, along each axis
    :param strides: from one window to the next
    :return: where windows are constant, at up to six places along each axis,
        :math:`B \\times *counts`
    """
    axes = zip(field.shape[2:], sizes, strides, strict=True)
    grid = [((length - size) // stride + 1, stride) for length, size, stride in axes]
    places = [_spread(size) for size in sizes]
    same = (_SAME * scale).to(field).view(-1, *[1] * len(sizes))
    if torch.compiler.is_compiling():  # a trace must hold for all images
        return _alike(field, places, grid, same)
    # few windows have equal corners, and only these can be constant
    first, last = (_at(field, [inside[end] for inside in places], grid) for end in (0, -1))
    apart = (first - last).abs_()
    # all() takes twice the time of amax()
    found = (apart[:, 0] <= same) if field.shape[1] == 1 else (apart - same).amax(dim=1) <= 0
    rows = found.nonzero()
    if len(rows) > _FEW * found.numel():
        return _alike(field, places, grid, same)
    if len(rows):
        found[tuple(rows.T)] = _alike_at(field, rows, places, grid, same.flatten())
    return found


def if_any(flat: Tensor) -> Tensor | None:
    """Where images are constant; ``None`` if nowhere, as most; a trace must hold for all."""
    return flat if torch.compiler.is_compiling() or bool(flat.any()) else None


def everywhere(flat: Tensor) -> Tensor:
    """
    :return: whether images are constant nearly everywhere (:math:`B \\times P`), too much so to be
        read, shape :math:`B`
    """
    least = max(_FEWEST, math.ceil(_LEAST * flat.shape[1]))
    return (~flat).sum(dim=1) < min(least, flat.shape[1])


def without(flat: Tensor, values: Tensor) -> Tensor:
    """
    :param flat: positions to leave out, :math:`B \\times P`
    :param values: :math:`B \\times R \\times P`
    :return: the others, again and again until there are :math:`P`, so that quantiles and means
        over these are those of the others
    """
    count = flat.shape[1]
    places = torch.arange(count, device=flat.device)
    # those to keep first, in their order; no sort: exporters know no stable one, ExecuTorch none
    order = (places + count * flat).topk(count, dim=1, largest=False).indices
    kept = (~flat).sum(dim=1, keepdim=True).clamp_min(1)
    index = order.gather(1, places % kept)
    return values.gather(2, index[:, None].expand(values.shape))


def _spread(size: int) -> list[int]:
    """Places along an axis of a window, both ends among them."""
    count = min(size, _COMPARED)
    return sorted({round(i * (size - 1) / max(1, count - 1)) for i in range(count)})


def _at(field: Tensor, place: list[int], grid: Grid) -> Tensor:
    """The same place of all windows."""
    read = [
        slice(start, start + (count - 1) * stride + 1, stride)
        for start, (count, stride) in zip(place, grid, strict=True)
    ]
    index: tuple[EllipsisType | slice, ...] = (..., *read)
    return field[index]


def _alike(field: Tensor, places: list[list[int]], grid: Grid, same: Tensor) -> Tensor:
    """Whether windows have equal values at all places; of all windows, axis by axis."""
    high = low = field
    for axis, (inside, (count, stride)) in enumerate(zip(places, grid, strict=True), 2):
        # slices: to gather all places at once is fewer operations and takes six times as long
        highs, lows = (
            [_every(values, axis, start, count, stride) for start in inside]
            for values in (high, low)
        )
        high, low = reduce(torch.maximum, highs), reduce(torch.minimum, lows)
    return ((high - low) <= same).all(dim=1)


def _alike_at(
    field: Tensor, rows: Tensor, places: list[list[int]], grid: Grid, same: Tensor
) -> Tensor:
    """The same of a few windows: of each its image, and its number along each axis."""
    axes = len(places)
    index = [rows[:, 0].view(-1, *[1] * axes)]
    for axis, (inside, (_, stride)) in enumerate(zip(places, grid, strict=True)):
        along = rows[:, axis + 1, None] * stride + torch.tensor(inside, device=rows.device)
        index.append(along.view(len(rows), *[-1 if other == axis else 1 for other in range(axes)]))
    values = field.movedim(1, -1)[tuple(index)].flatten(1, -2)
    return ((values.amax(dim=1) - values.amin(dim=1)) <= same).all(dim=1)


def _every(values: Tensor, axis: int, start: int, count: int, stride: int) -> Tensor:
    index = [slice(None)] * values.dim()
    index[axis] = slice(start, start + (count - 1) * stride + 1, stride)
    return values[tuple(index)]
