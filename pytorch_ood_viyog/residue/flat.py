"""
Where an image is constant: bars of a letterbox, borders cut to black, padding. No camera leaves
that, and it says nothing about a residue; it would only look like a very quiet image.
"""

import math

import torch
from torch import Tensor

from .windows import Windows

__all__ = ["FLAT", "constant", "constant_maps", "everywhere", "without"]

#: a hundredth of an 8-bit step: what is flatter counts as flat
FLAT = 0.01 / 255
# values of a window that differ by less are the same: rounding of maps, not of images
_SAME = 5 * FLAT
# places along an axis of a window that are compared
_COMPARED = 6
# share of the windows that must not be constant, and fewest of them, to read an image at all
_LEAST, _FEWEST = 0.1, 4


def constant(field: Tensor, scale: Tensor, sizes: tuple[int, ...], strides: list[int]) -> Tensor:
    """
    :param field: the part of the layer's input that the windows see,
        :math:`B \\times C_{in} \\times *S`
    :param scale: dynamic range of each channel
    :param sizes: of a window, along each axis
    :param strides: from one window to the next
    :return: where windows are constant, at up to six places along each axis,
        :math:`B \\times *counts`
    """
    high = low = field
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True), 2):
        count = (field.shape[axis] - size) // stride + 1
        compared = min(size, _COMPARED)
        places = sorted({round(i * (size - 1) / max(1, compared - 1)) for i in range(compared)})
        highs, lows = (
            [_every(values, axis, start, count, stride) for start in places]
            for values in (high, low)
        )
        high, low = highs[0], lows[0]
        for other in highs[1:]:
            high = torch.maximum(high, other)
        for other in lows[1:]:
            low = torch.minimum(low, other)
    same = (_SAME * scale).to(field).view(-1, *[1] * len(sizes))
    return ((high - low) <= same).all(dim=1)


def constant_maps(quiet: Tensor, windows: Windows) -> Tensor:
    """
    :param quiet: responses of the quiet directions, position by position, as packed maps
    :param windows: where they are read
    :return: where windows are constant, as far as the maps tell, :math:`B \\times *counts`
    """
    high = low = None
    for values in windows.neighbours(quiet):
        high = values if high is None else torch.maximum(high, values)
        low = values if low is None else torch.minimum(low, values)
    assert high is not None
    assert low is not None
    return ((high - low) <= _SAME).all(dim=1)


def everywhere(flat: Tensor) -> Tensor:
    """
    :param flat: where an image is constant, :math:`B \\times P`
    :return: whether it is nearly everywhere, too much so to be read, shape :math:`B`
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
    # those to keep first, in their order; no stable sort, which exporters do not know
    order = (places + count * flat).sort(dim=1).values % count
    kept = (~flat).sum(dim=1, keepdim=True).clamp_min(1)
    index = order.gather(1, places % kept)
    return values.gather(2, index[:, None].expand(values.shape))


def _every(values: Tensor, axis: int, start: int, count: int, stride: int) -> Tensor:
    index = [slice(None)] * values.dim()
    index[axis] = slice(start, start + (count - 1) * stride + 1, stride)
    return values[tuple(index)]
