"""
The metrics of pytorch-ood on many bootstrap resamples at once.

A resample draws as many samples as there are, with replacement, separately from the positive and
the negative ones. It is kept as a *count* per sample. All metrics follow from counts that are
summed along the sorted scores, so the scores are sorted once, for all resamples together.
"""

from collections.abc import Iterator

import torch
from pytorch_ood.metrics import OODMetrics
from torch import Tensor

__all__ = ["METRICS", "metrics_with_intervals", "resample", "weighted_metrics"]

#: names of the metrics, as pytorch-ood writes them
METRICS = ("AUROC", "AUPR-IN", "AUPR-OUT", "FPR95TPR", "AUTC")

# resamples × samples that are worked on at once: arrays of 0.8 MB, which stay in the cache of a
# processor, where larger ones take twice the time
_CHUNK = 100_000


def resample(samples: int, resamples: int, seed: int) -> Tensor:
    """
    :param samples: number :math:`n` of samples
    :param resamples: number :math:`R` of bootstrap resamples
    :param seed: seed of the draw
    :return: how often each sample is drawn, shape :math:`R \\times n`, int32; every row sums to n
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.zeros(resamples, samples, dtype=torch.int32)
    for row in counts:
        drawn = torch.randint(samples, (samples,), generator=generator)
        row += torch.bincount(drawn, minlength=samples).to(torch.int32)
    return counts


def metrics_with_intervals(
    negative: Tensor,
    positive: Tensor,
    counts: tuple[Tensor, Tensor] | None,
) -> dict[str, float]:
    """
    Metrics by pytorch-ood and their percentile bootstrap intervals, which cover 95 %.

    The images count as a sample of those that could have been measured; detector, classifier and
    attack count as given. An adversarial image and the ID image that it was made of are drawn
    independently of each other.

    :param negative: scores of the negative class, any float type
    :param positive: scores of the positive class; larger scores mean more likely positive
    :param counts: resamples of both, see :func:`resample`; ``None`` for no intervals
    :return: every metric of ``METRICS`` by name, and ``NAME low`` and ``NAME high`` with it
    :raises ValueError: if a score is NaN or a class is empty
    """
    scores = torch.cat([negative, positive]).double().cpu()
    labels = torch.cat([torch.zeros(len(negative)), -torch.ones(len(positive))])
    point = OODMetrics().update(scores, labels).compute()
    values = {name: float(point[name]) for name in METRICS}
    if counts is None:
        return values
    chunks = [weighted_metrics(scores, labels < 0, part) for part in _chunks(*counts)]
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
    for name in METRICS:
        drawn = torch.cat([chunk[name] for chunk in chunks])
        low, high = torch.nanquantile(drawn, quantiles).tolist()
        values |= {f"{name} low": low, f"{name} high": high}
    return values


def weighted_metrics(scores: Tensor, positive: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """
    Metrics of data in which sample :math:`i` occurs :math:`c_{ri}` times, for every :math:`r`.

    :param scores: shape :math:`n`; larger means more likely positive
    :param positive: which samples are positive, shape :math:`n`
    :param counts: :math:`c`, shape :math:`R \\times n`, with samples of both classes in each row
    :return: ``METRICS`` by name, each of shape :math:`R`; AUTC is NaN where all scores of a
        resample are equal or one is infinite
    """
    order = scores.argsort(descending=True)
    scores, positive, counts = scores[order], positive[order], counts[:, order].double()
    tie_ends = torch.cat([scores[1:] != scores[:-1], torch.tensor([True])]).nonzero().flatten()
    true = (counts * positive).cumsum(dim=1)[:, tie_ends]
    false = (counts * ~positive).cumsum(dim=1)[:, tie_ends]
    zero = torch.zeros(len(counts), 1, dtype=torch.float64)
    true, false = torch.cat([zero, true], dim=1), torch.cat([zero, false], dim=1)
    tpr, fpr = true / true[:, -1:], false / false[:, -1:]
    at_95 = (tpr >= 0.95).int().argmax(dim=1, keepdim=True)
    return {
        "AUROC": torch.trapezoid(tpr, fpr, dim=1),
        # the negatives found from below: those not yet passed, threshold by threshold
        "AUPR-IN": _average_precision(false[:, -1:] - false, true[:, -1:] - true).neg(),
        "AUPR-OUT": _average_precision(true, false),
        "FPR95TPR": fpr.gather(1, at_95).squeeze(1),
        "AUTC": _threshold_area(scores, positive, counts),
    }


def _average_precision(found: Tensor, wrong: Tensor) -> Tensor:
    """Area under precision over recall, by the trapezoidal rule, in the order given."""
    recall = found / found.amax(dim=1, keepdim=True)
    # nothing accepted yet: precision 1 by pytorch-ood's and scikit-learn's convention
    precision = (found / (found + wrong)).nan_to_num(nan=1.0)
    return torch.trapezoid(precision, recall, dim=1)


def _threshold_area(scores: Tensor, positive: Tensor, counts: Tensor) -> Tensor:
    """Mean of false positive and false negative rate over thresholds, as pytorch-ood's AUTC."""
    drawn = counts > 0  # scores are descending: the first drawn is the largest
    high = scores[drawn.int().argmax(dim=1)]
    low = scores[drawn.shape[1] - 1 - drawn.flip(1).int().argmax(dim=1)]
    classes = torch.stack([positive, ~positive], dim=1).double()
    mean_positive, mean_negative = (
        (counts @ (scores[:, None] * classes)) / (counts @ classes)
    ).unbind(dim=1)
    area = 0.5 + (mean_negative - mean_positive) / (high - low) / 2
    return torch.where(torch.isfinite(area), area, torch.nan)


def _chunks(negative: Tensor, positive: Tensor) -> Iterator[Tensor]:
    rows = max(1, _CHUNK // (negative.shape[1] + positive.shape[1]))
    for one, other in zip(torch.split(negative, rows), torch.split(positive, rows), strict=True):
        yield torch.cat([one, other], dim=1)
