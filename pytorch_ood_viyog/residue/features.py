"""
Robust summaries of responses over space.
"""

import math

import torch
from torch import Tensor

__all__ = ["features"]

# a hundredth of an 8-bit step, squared: what is flatter counts as flat
_FLAT = (0.01 / 255) ** 2
# responses beyond it tell nothing more, and their squares would be infinite
_LARGEST = 1e15
# directions in a band
_BAND = 4


def features(local: Tensor, around: Tensor, one_by_one: int) -> Tensor:
    """
    Robust summaries over space. The quantiles see the flat regions of an image, where texture
    cannot hide a residue; the mean sees all of it. Bands, means of :math:`z^2` over four
    directions, are less noisy at a position and so find the flattest positions.

    .. math::
        f = \\ln (v + (0.01 / 255)^2), \\quad
        v \\in \\{ q_{10\\%}(z^2),\\ q_{50\\%}(z^2),\\ \\mathrm{mean}(z^2) \\}
        \\cup \\{ q_{5\\%}(band),\\ q_{25\\%}(band),\\ q_{50\\%}(band) \\}

    :param local: responses :math:`z` of the directions at a position, quietest first, in units of
        the input's dynamic range, :math:`B \\times M \\times P`
    :param around: those of the directions in a window, :math:`B \\times R \\times P'`
    :param one_by_one: number of local directions that are read one by one; all are in bands
    :return: features of shape :math:`B \\times F`, float64
    """
    local, around = (z.clamp(-_LARGEST, _LARGEST).square() for z in (local, around))
    columns = [
        torch.cat(pair, dim=1)
        for pair in (
            *zip(_single(local[:, :one_by_one]), _single(around), strict=True),
            *zip(_banded(local), _banded(around), strict=True),
        )
    ]
    # ONNX exporters drop the addition of so small a number as _FLAT
    return (torch.cat(columns, dim=1) / _FLAT + 1).log() + math.log(_FLAT)


def _single(energies: Tensor) -> list[Tensor]:
    median, tenth = _quantiles(energies, (0.5, 0.1))
    return [tenth, median, energies.mean(dim=2).double()]


def _banded(energies: Tensor) -> list[Tensor]:
    half, quarter, twentieth = _quantiles(_bands(energies), (0.5, 0.25, 0.05))
    return [twentieth, quarter, half]


def _bands(energies: Tensor) -> Tensor:
    """Means over groups of four directions: :math:`B \\times R / 4 \\times P`."""
    size = min(_BAND, energies.shape[1])
    groups = energies.shape[1] // size
    whole = energies[:, : groups * size]
    return whole.reshape(energies.shape[0], groups, size, energies.shape[2]).mean(dim=2)


def _quantiles(values: Tensor, fractions: tuple[float, ...]) -> list[Tensor]:
    """Quantiles over space, ``fractions`` descending, without sorting all positions."""
    last, quantiles = values.shape[2] - 1, []
    for fraction in fractions:
        count = round(fraction * last) + 1
        values = values.topk(count, dim=2, largest=False, sorted=False).values
        quantiles.append(values.amax(dim=2).double())
    return quantiles
