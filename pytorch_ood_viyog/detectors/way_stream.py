"""
Has a stream of images begun to come another way? Bets on it that can be relied on, image by image.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .way_check import COMPONENTS, Rows

__all__ = ["WayStream"]

# probability that the bounds of the means do not hold, as calibration images are a sample
_DOUBT = 0.05
# share of what one has that is bet, where bounds are looked for and in a stream
_LEARNING, _BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.4]), np.array([0.2, 0.5, 0.9])
_HALVINGS = 25


@dataclass(frozen=True)
class WayStream:
    """
    An e-detector of Shiryaev and Roberts. Each image has scores :math:`s \\in [0, 1]`, logistic
    functions of standardised features and of their leading components, and :math:`1 - s`. With
    bounds :math:`U` that their means do not exceed and any bet :math:`c < 1`,

    .. math::
        M_t = (M_{t - 1} + 1) \\left( 1 + \\frac{c}{U} (s_t - U) \\right)

    grows by one an image at most, on average, as long as images come the same way; so does the
    mean of :math:`M` over scores and bets, which therefore needs :math:`A` images or more, on
    average, to reach :math:`A`. Where images come another way, it grows exponentially.

    Half of the calibration images say how features are standardised, the other half how large the
    means can be: :math:`U` are upper confidence bounds, together with probability 95 %, by
    betting against each value. No distribution is assumed, but that images are independent draws
    of one.

    :see: Shin, Ramdas and Rinaldo, *E-detectors*, 2022; Waudby-Smith and Ramdas, *Estimating means
        of bounded random variables by betting*, 2020
    """

    #: of the features, for standardising
    mean: Rows
    deviation: Rows
    #: leading components of the standardised features, one a column, scaled
    axes: Rows
    #: bounds :math:`U`
    bounds: Rows
    #: statistic :math:`M`, by score and bet
    evidence: Rows

    @staticmethod
    def of(known: Rows, seed: int) -> "WayStream":
        """
        :param known: readings of calibration images
        :param seed: of the choice of the two halves
        :return: a stream of no images yet
        """
        known = known[np.random.default_rng(seed).permutation(len(known))]
        first, second = known[::2], known[1::2]
        mean, deviation = first.mean(axis=0), first.std(axis=0) + 1e-12
        _, sizes, axes = np.linalg.svd((first - mean) / deviation, full_matrices=False)
        few = min(COMPONENTS, len(first) - 2)
        scaled = axes[:few].T / np.maximum(sizes[:few], 1e-9 * sizes[0]) * len(first) ** 0.5
        stream = WayStream(mean, deviation, scaled, np.empty(0), np.empty((0, 0)))
        bounds = _upper_bounds(stream.scores(second))
        return replace(stream, bounds=bounds, evidence=np.zeros((len(bounds), len(_BETS))))

    def scores(self, readings: Rows) -> Rows:
        """
        :param readings: one image a row
        :return: :math:`s`, of each image a row
        """
        standard = (readings - self.mean) / self.deviation
        standard = np.concatenate([standard, standard @ self.axes], axis=1)
        usual: Rows = 0.5 + 0.5 * np.tanh(standard)
        return np.concatenate([usual, 1 - usual], axis=1)

    def seen(self, readings: Rows, enough: float) -> tuple["WayStream", int]:
        """
        :param readings: of the next images of a stream
        :param enough: :math:`A`
        :return: the stream after them, or after the first that makes the evidence reach
            :math:`A`, and how many that were
        """
        evidence = self.evidence
        for count, score in enumerate(self.scores(readings), 1):
            gains = 1 + _BETS * (score / self.bounds - 1)[:, None]
            evidence = (evidence + 1) * gains
            if evidence.mean() >= enough:
                return replace(self, evidence=evidence), count
        return replace(self, evidence=evidence), len(readings)

    def reached(self, enough: float) -> bool:
        """:return: whether the evidence has reached so much"""
        return bool(self.evidence.mean() >= enough)

    def joined(self, other: "WayStream") -> "WayStream":
        """
        :param other: what another part of the stream gave
        :return: both together: on average, sums grow by one an image as well
        """
        return replace(self, evidence=self.evidence + other.evidence)

    def emptied(self) -> "WayStream":
        """:return: a stream of no images yet"""
        return replace(self, evidence=np.zeros_like(self.evidence))


def _upper_bounds(scores: Rows) -> NDArray[np.float64]:
    """Means of columns do not exceed them, with probability :data:`_DOUBT` that one does."""
    enough = np.log(len(_LEARNING) * scores.shape[1] / _DOUBT)
    low, high = scores.mean(axis=0), np.ones(scores.shape[1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # one who bets that scores are below a mean that is too large gets rich
        per_image = (middle - scores) / np.maximum(1 - middle, 1e-9)
        gains = [np.log1p(bet * per_image).sum(axis=0) for bet in _LEARNING]
        refuted = np.logaddexp.reduce(gains, axis=0) >= enough
        low, high = np.where(refuted, low, middle), np.where(refuted, middle, high)
    return high
