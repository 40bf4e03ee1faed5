"""
Conformal p-values and alarm thresholds: false alarms bounded by ID data alone, whatever the
scores are.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = [
    "alarm_thresholds",
    "conformal_p_values",
    "smallest_calibration_set",
]


def conformal_p_values(calibration: Tensor, scores: Tensor) -> Tensor:
    """
    .. math::
        p(s) = \\frac{1 + \\#\\{i : s_i \\geq s\\}}{n + 1}

    For an ID sample that is exchangeable with the :math:`n` calibration samples,
    :math:`P(p \\leq \\alpha) \\leq \\alpha` for every :math:`\\alpha`.

    :param calibration: scores :math:`s_i` of ID calibration samples in ascending order, shape
        :math:`n`
    :param scores: scores :math:`s`, shape :math:`B`, larger for the anomaly looked for
    :return: p-values of shape :math:`B`, float64; at least :math:`1 / (n + 1)`
    """
    below = torch.searchsorted(calibration, scores.to(calibration), side="left")
    return (1 + len(calibration) - below).double() / (len(calibration) + 1)


def smallest_calibration_set(alpha: float, signals: int) -> int:
    """
    :param alpha: rate of false alarms :math:`\\alpha`
    :param signals: number of signals that can raise an alarm
    :return: the smallest number of calibration samples that gives each signal a threshold,
        :math:`\\lceil signals / \\alpha \\rceil - 1`
    """
    return math.ceil(signals / alpha) - 1


def alarm_thresholds(
    scores: Mapping[str, Tensor], alpha: float, shares: Mapping[str, float]
) -> dict[str, float]:
    """
    One threshold per signal; an alarm is raised where *any* score is above its threshold.

    With :math:`n` calibration samples, :math:`m = \\lfloor \\alpha (n + 1) \\rfloor` of them are
    cut off one at a time. Each cut takes the sample with the largest score of one signal among
    the samples that are left; that score becomes the signal's threshold. Which signal a cut
    belongs to is fixed beforehand by the shares. The regions cut off are statistically equivalent
    blocks (Wald 1943, Tukey 1947), so that for a new ID sample that is exchangeable with the
    calibration samples

    .. math::
        P(\\text{alarm}) \\leq \\frac{m}{n + 1} \\leq \\alpha,

    with equality on the left where scores have no ties, whatever their distribution and however
    the signals depend on each other. Over calibration sets, the rate of false alarms that a
    user then meets is :math:`Beta(m, n + 1 - m)` distributed: for :math:`\\alpha = 0.05` it
    stays below 0.066 in nine of ten sets of 300 samples and below 0.059 of 1,000.

    For one signal this is the usual conformal quantile, the
    :math:`\\lceil (n + 1)(1 - \\alpha) \\rceil`-th smallest score. For several it spends the
    whole budget, where Bonferroni's correction wastes what the signals have in common.

    :param scores: signal -> scores of the same ID calibration samples, shape :math:`n`, larger
        for the anomaly looked for
    :param alpha: rate of false alarms :math:`\\alpha`, in (0, 1)
    :param shares: signal -> its share of the cuts, positive; they need not add up to 1
    :return: signal -> threshold
    :raises ValueError: if there are too few samples, lengths differ, or a score is NaN
    """
    names = list(scores)
    lengths = {name: len(values) for name, values in scores.items()}
    needed = smallest_calibration_set(alpha, len(names))
    if len(set(lengths.values())) != 1 or lengths[names[0]] < needed:
        raise ValueError(
            f"scores must be of the same {needed} or more ID samples for a rate of {alpha:g} and "
            f"{len(names)} signals, got numbers of samples {lengths}."
        )
    for name, values in scores.items():
        if bool(values.isnan().any()):
            raise ValueError(f"scores of {name!r} must not be NaN.")
    count = lengths[names[0]]
    cuts = _schedule(math.floor(alpha * (count + 1) + 1e-9), shares, names)
    return _cut(scores, cuts)


def _schedule(count: int, shares: Mapping[str, float], names: list[str]) -> list[str]:
    """Signal of each cut: first one for each, then always the one furthest behind its share."""
    total = sum(shares[name] for name in names)
    cuts = list(names)
    for number in range(len(names), count):
        done = {name: cuts.count(name) for name in names}
        cuts.append(max(names, key=lambda name: shares[name] / total * (number + 1) - done[name]))
    return cuts


def _cut(scores: Mapping[str, Tensor], cuts: list[str]) -> dict[str, float]:
    largest_first = {
        name: iter(values.argsort(descending=True, stable=True).tolist())
        for name, values in scores.items()
    }
    removed: set[int] = set()
    thresholds = {}
    for name in cuts:
        sample = next(i for i in largest_first[name] if i not in removed)
        removed.add(sample)
        thresholds[name] = float(scores[name][sample])
    return thresholds
