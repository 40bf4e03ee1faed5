"""
Did two sets of images come the same way? Their readings compared, and what that says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMPONENTS", "FEWEST", "Rows", "WayCheck", "compared"]

#: readings, one image a row
Rows = NDArray[np.float64]

#: fewest images of a check
FEWEST = 10
#: leading components of the covariance that are compared together
COMPONENTS = 20
# a shift of so many standard errors or more is a shift
_CLEAR = 4.0


@dataclass(frozen=True)
class WayCheck:
    """What a check found."""

    #: probability that images of the same way differ as much
    p_value: float
    #: the feature whose mean moved most, and by how many standard errors
    reading: str
    shift: float
    #: what that says, in a sentence
    sentence: str
    #: number of images
    count: int

    def __str__(self) -> str:
        return self.sentence


def compared(
    known: Rows, found: Rows, names: Sequence[str], permutations: int, seed: int
) -> WayCheck:
    """
    :param known: readings of calibration images
    :param found: those of other images
    :param names: of the readings
    :param permutations: number of them, which bounds the p-value from below
    :param seed: of the permutations
    :return: what differs, and how surely, see :class:`~pytorch_ood_viyog.detectors.SameWay`
    """
    shifts = _standard_errors(known, found)
    most = int(np.abs(shifts).argmax())
    p_value = _p_value(known, found, permutations, seed)
    sentence = (
        f"p = {p_value:.4f} for {len(found)} images: {names[most]} moved by {shifts[most]:+.1f} "
        f"standard errors. {_meaning(shifts, p_value)}"
    )
    return WayCheck(p_value, names[most], float(shifts[most]), sentence, len(found))


def _standard_errors(known: Rows, found: Rows) -> Rows:
    both = np.concatenate([known - known.mean(axis=0), found - found.mean(axis=0)])
    deviation = np.sqrt((both**2).sum(axis=0) / (len(both) - 2))
    difference = found.mean(axis=0) - known.mean(axis=0)
    errors: Rows = difference / (deviation * np.sqrt(1 / len(known) + 1 / len(found)) + 1e-12)
    return errors


def _p_value(known: Rows, found: Rows, permutations: int, seed: int) -> float:
    """Of the largest shift and of Hotelling's statistic together."""
    pooled = np.concatenate([found, known])
    pooled = pooled - pooled.mean(axis=0)
    pooled /= pooled.std(axis=0) + 1e-12
    _, sizes, axes = np.linalg.svd(pooled, full_matrices=False)
    few = min(COMPONENTS, len(found) - 2)
    leading = pooled @ (axes[:few].T / np.maximum(sizes[:few], 1e-9 * sizes[0]))
    generator = np.random.default_rng(seed)
    chosen = np.zeros((permutations + 1, len(pooled)))
    chosen[0, : len(found)] = 1
    for row in chosen[1:]:
        row[generator.permutation(len(pooled))[: len(found)]] = 1
    # of a part of pooled rows, the sum tells the difference of the means
    statistics = [np.abs(chosen @ pooled).max(axis=1), ((chosen @ leading) ** 2).sum(axis=1)]
    ranks = [_share_as_large(values) for values in statistics]
    return float(_share_as_large(-np.minimum(*ranks))[0])


def _share_as_large(values: Rows) -> Rows:
    ordered = np.sort(values)
    # equal sums may differ by rounding
    at_least = len(values) - np.searchsorted(ordered, values - 1e-9 * np.abs(values))
    return at_least / len(values)


def _meaning(shifts: Rows, p_value: float) -> str:
    if p_value > 0.01:
        return "No sign that the images came another way than the calibration images."
    clear = shifts[np.abs(shifts) >= min(_CLEAR, float(np.abs(shifts).max()))]
    finer = float((clear > 0).mean())
    if finer > 0.8:
        return (
            "Finer than the calibration images: another resize filter, a sharper source, less "
            "compression, or noise?"
        )
    if finer < 0.2:
        return (
            "Smoother than the calibration images: another resize filter, an enlarged source, "
            "stronger compression, or no rounding to 8 bit?"
        )
    return "Other than the calibration images, finer here and smoother there: a codec or palette?"
