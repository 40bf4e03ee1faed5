"""
Robust summaries of responses over space.
"""

import math

import torch
from torch import Tensor

from ..layer.linear.constant_windows import everywhere, without

__all__ = ["BAND", "features", "quantile", "unreadable"]

# a hundredth of an 8-bit step: what is flatter counts as flat
_STEP = 0.01 / 255
_FLAT = _STEP**2
# features so little above the least are it
_NOTHING = 1e-9
# squares of responses beyond it tell nothing more
_LARGEST = 1e30
#: directions in a band
BAND = 4
# positions that are searched for a quantile; of more, groups are
_SEARCHED = 150


def features(
    local: Tensor, around: Tensor, one_by_one: int, flat: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """
    Robust summaries over space. The quantiles see the flat regions of an image, where texture
    cannot hide a residue; the mean sees all of it. Bands, means of :math:`z^2` over four
    directions, are less noisy at a position and so find the flattest positions.

    .. math::
        f = \\ln (v + (0.01 / 255)^2), \\quad
        v \\in \\{ q_{10\\%}(z^2),\\ q_{50\\%}(z^2),\\ \\mathrm{mean}(z^2) \\}
        \\cup \\{ q_{5\\%}(band),\\ q_{25\\%}(band),\\ q_{50\\%}(band) \\}

    Positions in constant windows are left out. An image that has hardly any others cannot be read:
    all of its features are those of nothing, :math:`\\ln (0.01 / 255)^2`.

    Of many positions, the quantiles are medians over groups of positions, see :func:`quantile`.

    :param local: responses :math:`z` of the directions at a position, quietest first, in units of
        the input's dynamic range, :math:`B \\times M \\times P`
    :param around: those of the directions in a window, :math:`B \\times R \\times P'`
    :param one_by_one: number of local directions that are read one by one; all are in bands
    :param flat: which positions of both are in constant windows, :math:`B \\times P` and
        :math:`B \\times P'`; ``None``: none of them
    :return: features of shape :math:`B \\times F`, float64
    """
    local, around = (z.square().clamp_max_(_LARGEST) for z in (local, around))
    if flat is not None:
        local, around = without(flat[0], local), without(flat[1], around)
    pairs = zip(_summaries(local, one_by_one), _summaries(around, around.shape[1]), strict=True)
    # ONNX exporters drop the addition of so small a number as _FLAT
    energies = torch.cat([each for pair in pairs for each in pair], dim=1).double() / _FLAT
    if flat is not None:
        energies = torch.where(everywhere(flat[1])[:, None], 0.0, energies)
    return (energies + 1).log() + math.log(_FLAT)


def unreadable(features: Tensor) -> Tensor:
    """:return: of which images nothing can be read, shape :math:`B`, by features"""
    return (features < math.log(_FLAT) + _NOTHING).all(dim=1)


def quantile(values: Tensor, fraction: float) -> Tensor:
    """
    A quantile over space, the last axis. Searching hundreds of positions for it takes most of the
    time that a detector has; so of many, it is the median over groups of positions far from each
    other:

    .. math::
        q_{50\\%}(v) \\approx q_{50\\%}(\\mathrm{median\\ of\\ three}), \\qquad
        q_p(v) \\approx q_{50\\%}(\\mathrm{least\\ of}\\ k), \\quad (1 - p)^k \\approx 1/2

    Of independent positions, half of the groups of :math:`k` have one below :math:`q_p`, and a
    median of medians of three is as sharp as the median of three quarters of the positions.
    """
    if values.shape[2] >= _SEARCHED and fraction < 0.5:
        size = round(math.log(0.5) / math.log1p(-fraction))
        values, fraction = _groups(values, size).amin(dim=2), 0.5
    while values.shape[2] >= _SEARCHED:
        values = _medians_of_three(values)
    count = round(fraction * (values.shape[2] - 1)) + 1
    return values.topk(count, dim=2, largest=False, sorted=False).values.amax(dim=2)


def _groups(values: Tensor, size: int) -> Tensor:
    """Groups of positions, the first after the first of each part: :math:`B, R, size, P/size`."""
    count = values.shape[2] // size
    return torch.unflatten(values.narrow(2, 0, count * size), 2, (size, count))


def _medians_of_three(values: Tensor) -> Tensor:
    one, two, three, *_ = torch.split(values, values.shape[2] // 3, dim=2)
    # no clamp between tensors: ONNX Runtime warns of what exporters write for it
    return torch.maximum(torch.minimum(one, two), torch.minimum(torch.maximum(one, two), three))


def _summaries(energies: Tensor, one_by_one: int) -> list[Tensor]:
    """Of directions one by one, then of bands, in the order of :func:`features`."""
    single, bands = energies[:, :one_by_one], _bands(energies)
    sizes = [single.shape[1], bands.shape[1]]
    medians, banded = torch.split(quantile(torch.cat([single, bands], dim=1), 0.5), sizes, dim=1)
    return [
        *(quantile(single, 0.1), medians, single.mean(dim=2)),
        *(quantile(bands, 0.05), quantile(bands, 0.25), banded),
    ]


def _bands(energies: Tensor) -> Tensor:
    """Means over groups of four directions: :math:`B \\times R / 4 \\times P`."""
    size = min(BAND, energies.shape[1])
    groups = energies.shape[1] // size
    whole = energies.narrow(1, 0, groups * size)
    return torch.unflatten(whole, 1, (groups, size)).mean(dim=2)
