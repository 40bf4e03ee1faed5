"""
The noise floor of parts of an image.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...layer.linear.constant_windows import if_any
from ..reader import Reader, Reading
from ..windows import Windows

__all__ = ["Regions", "floor_map", "region_features"]

# regions along an axis, and fewest positions of the maps from one to the next
_MOST_REGIONS, _FEWEST_POSITIONS = 8, 2
# directions in a band
_BAND = 4
# a hundredth of an 8-bit step, squared: what is flatter counts as flat
_FLAT = (0.01 / 255) ** 2
# squares of responses beyond it tell nothing more
_LARGEST = 1e30
# median of the square of a standard normal variable
_NORMAL_MEDIAN = 0.4549


@dataclass(frozen=True)
class Regions:
    """
    A grid of overlapping regions. Its cells tile the maps; a region is a cell with half a cell
    more on each side: 8 × 8 positions of maps of 32 × 32, of which there are 8 × 8 regions.
    """

    #: share of each window in each region, along each axis: :math:`H' \\times n` each
    shares: tuple[Tensor, ...]

    @staticmethod
    def of(windows: Windows, shape: tuple[int, ...], like: Tensor) -> "Regions":
        """
        :param windows: where the maps are read
        :param shape: spatial shape of the maps
        :param like: tensor whose type and device the shares get
        :return: the regions
        """
        axes = zip(windows.margins, windows.steps, windows.count_of(shape), shape, strict=True)
        return Regions(
            tuple(
                _shares(margin + 1 + step * torch.arange(count), size).to(like)
                for margin, step, count, size in axes
            )
        )

    def mean(self, values: Tensor) -> Tensor:
        """
        :param values: at each window, :math:`B \\times R \\times *n`
        :return: means over each region, :math:`B \\times R \\times *H'`
        """
        for axis, shares in enumerate(self.shares, 2):
            values = (values.movedim(axis, -1) @ shares.T.to(values)).movedim(-1, axis)
        return values


def _shares(centres: Tensor, size: int) -> Tensor:
    """For windows with these centres, among ``size`` positions."""
    cells = max(1, min(_MOST_REGIONS, size // _FEWEST_POSITIONS))
    middles = (torch.arange(cells) + 0.5) * size / cells
    distances = (centres + 0.5 - middles[:, None]).abs()
    # where windows are far apart, the nearest one is in the region
    within = distances.amin(dim=1, keepdim=True).clamp_min(size / cells)
    inside = (distances <= within).double()
    return inside / inside.sum(dim=1, keepdim=True)


def region_features(around: Tensor, regions: Regions, flat: Tensor | None = None) -> Tensor:
    """
    For bands of four directions in windows, the logarithm of the geometric and of the arithmetic
    mean of their energy over each region. The geometric mean is that of the flat places, as few
    edges hardly change it; the other tells how much texture there is beside them.

    :param around: responses in windows, :math:`B \\times R \\times *n`
    :param regions: the regions
    :param flat: which windows are constant, :math:`B \\times *n`: they are left out; a region of
        no others shows nothing. ``None``: none are
    :return: features :math:`B \\times 2 R / 4 \\times *H'`, float64
    """
    energies = _bands(around) / _FLAT + 1  # ONNX exporters drop the addition of so small a number
    if flat is None:
        quiet, all_of_it = regions.mean(energies.log()), regions.mean(energies).log()
    else:
        counted = (~flat[:, None]).to(energies)
        # what is left out is nothing, which has the logarithm 0
        shares = regions.mean(counted).clamp_min(1e-6)
        quiet = regions.mean(counted * energies.log()) / shares
        all_of_it = (regions.mean(counted * (energies - 1)) / shares + 1).log()
    return torch.cat([quiet, all_of_it], dim=1).double() + math.log(_FLAT)


def _bands(around: Tensor) -> Tensor:
    size = min(_BAND, around.shape[1])
    groups = around.shape[1] // size
    energies = around[:, : groups * size].square().clamp_max(_LARGEST)
    return energies.reshape(around.shape[0], groups, size, *around.shape[2:]).mean(dim=2)


def floor_map(reading: Reading, reader: Reader, means: Tensor) -> Tensor:
    """
    .. math::
        \\sqrt{\\max(0,\\ c \\exp \\overline{\\ln e} - e_{ID})}

    with the energy :math:`e` of the quietest band of directions in windows, its mean logarithm
    over a region, :math:`c` that makes it the variance of white noise, and what the same
    directions show at the median position of ID images.

    :param reading: what was read at the layer
    :param reader: the directions
    :param means: centres of the hypotheses, ID first
    :return: strength of the residue in each region, as fraction of the dynamic range,
        :math:`B \\times *H'`
    """
    around = reading.around()
    regions = Regions.of(reading.windows, reading.shape, around)
    size = min(_BAND, around.shape[1])
    quietest = region_features(around[:, :size], regions, if_any(reading.flat))[:, 0]
    half = torch.tensor(size / 2, dtype=quietest.dtype)
    unbiased = (quietest - half.digamma().item() + half.log().item()).exp()
    usual = means[0, reader.window_medians][:size].exp().mean() / _NORMAL_MEDIAN
    return (unbiased - usual).clamp_min(0).sqrt()
