"""
The noise floor of parts of an image.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layer.linear.constant_windows import if_any
from .reader import Reader, Reading
from .windows import Windows

__all__ = ["Regions", "floor_map"]

# regions along an axis, and fewest positions of the maps from one to the next
_MOST_REGIONS, _FEWEST_POSITIONS = 8, 2
# directions that are read, the quietest
_QUIETEST = 4
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
        """Regions of maps of this shape; the shares get type and device of ``like``."""
        axes = zip(windows.margins, windows.steps, windows.count_of(shape), shape, strict=True)
        return Regions(
            tuple(
                _shares(margin + 1 + step * torch.arange(count), size).to(like)
                for margin, step, count, size in axes
            )
        )

    def mean(self, values: Tensor) -> Tensor:
        """Means over each region, :math:`B \\times R \\times *H'`, of values at each window."""
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


def floor_map(reading: Reading, reader: Reader, means: Tensor) -> Tensor:
    """
    .. math::
        \\sqrt{\\max(0,\\ c \\exp \\overline{\\ln e} - e_{ID})}

    with the mean energy :math:`e` of the four quietest directions in windows, its mean logarithm
    over a region (that of the flat places, as few edges hardly change it), :math:`c` that makes it
    the variance of white noise, and what the same directions show at the median position of ID
    images. Constant windows are left out; a region of no others shows nothing.

    :param reading: what was read at the layer
    :param reader: the directions
    :param means: centres of the hypotheses, ID first
    :return: strength of the residue in each region, as fraction of the dynamic range,
        :math:`B \\times *H'`
    """
    around = reading.around()
    regions = Regions.of(reading.windows, reading.shape, around)
    size = min(_QUIETEST, around.shape[1])
    energies = around[:, :size].square().clamp_max(_LARGEST).mean(dim=1, keepdim=True)
    # ONNX exporters drop the addition of so small a number as _FLAT
    logs = (energies / _FLAT + 1).log()
    flat = if_any(reading.flat)
    if flat is None:
        quiet = regions.mean(logs)
    else:
        counted = (~flat[:, None]).to(logs)
        quiet = regions.mean(counted * logs) / regions.mean(counted).clamp_min(1e-6)
    quietest = quiet[:, 0].double() + math.log(_FLAT)
    half = torch.tensor(size / 2, dtype=quietest.dtype)
    unbiased = (quietest - half.digamma().item() + half.log().item()).exp()
    usual = means[0, reader.window_medians][:size].exp().mean() / _NORMAL_MEDIAN
    return (unbiased - usual).clamp_min(0).sqrt()
