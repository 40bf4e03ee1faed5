"""
Learns the rule of a Triage from evidence of simulated populations, by scikit-learn.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ..populations.verdict import ORDER
from .rule import SHAPES, Learnt, Rule, Shape, expanded, stacked, standardised
from .table import Table

__all__ = ["learn"]

# inverse strength of the penalty, chosen by a look at one small net
_PENALTY = 0.003
# parts of the ID images: what was made of one is judged by what was learnt from the others
_PARTS = 5
# weights are learnt to three digits: more of them change no verdict
_TOLERANCE, _MOST_STEPS = 1e-3, 500
_TEMPERATURES = np.geomspace(0.2, 5, 50)

Array = NDArray[np.float64]


def learn(table: Table) -> Learnt:
    """
    Readings of the residue's features first, by a linear discriminant with a shrunk covariance;
    they become evidence as they are for *other* images. Then logistic regressions, with the
    verdicts and the populations of each counted alike; a temperature, chosen on other images
    too, makes their probabilities those that come true.

    :param table: evidence of simulated images
    :return: what follows from it; asks about no image again before :meth:`Learnt.asking`
    """
    verdict, source = table.verdict.numpy(), table.source.numpy()
    weights = _weights(verdict, table.family.numpy())
    shape, readings = _shape(table.shape.double(), verdict, source)
    first = dict(table.first) | dict(zip(SHAPES, readings.unbind(dim=1), strict=True))
    rule = _rule(first, verdict, source, weights)
    full = _rule(first | dict(table.look), verdict, source, weights) if table.look else None
    return Learnt(shape, rule, full, torch.tensor(torch.inf, dtype=torch.float64))


def _weights(verdict: NDArray[Any], family: NDArray[Any]) -> Array:
    """Each verdict counts alike, and so do the populations of a verdict."""
    weights = np.zeros(len(verdict))
    for kind in np.unique(verdict):
        families = np.unique(family[verdict == kind])
        for each in families:
            weights[family == each] = 1 / len(families) / (family == each).sum()
    scaled: Array = weights * len(weights) / weights.sum()
    return scaled


def _folds(source: NDArray[Any]) -> Iterator[NDArray[np.bool_]]:
    for part in range(_PARTS):
        yield source % _PARTS == part


def _shape(features: Tensor, verdict: NDArray[Any], source: NDArray[Any]) -> tuple[Shape, Tensor]:
    """
    The readings for new images, and those of these images as if they were new. New images are
    read by the mean of the discriminants that were fitted to parts: one that is fitted to all
    reads on another scale, as it has seen more images for hundreds of features.
    """
    known = features[torch.from_numpy(verdict == 0)]
    # a constant feature says nothing, but must not divide by zero
    mean, scale = known.mean(dim=0), known.std(dim=0) + 1e-3
    scaled = ((features - mean) / scale).asinh().numpy()
    unseen = np.zeros((len(verdict), len(ORDER)))
    weights, bias = [], []
    for out in _folds(source):
        part = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        unseen[out] = part.fit(scaled[~out], verdict[~out]).decision_function(scaled[out])
        weights.append(torch.from_numpy(part.coef_))
        bias.append(torch.from_numpy(part.intercept_))
    shape = Shape(mean, scale, torch.stack(weights).mean(dim=0), torch.stack(bias).mean(dim=0))
    return shape, torch.from_numpy(unseen)


def _rule(
    numbers: Mapping[str, Tensor], verdict: NDArray[Any], source: NDArray[Any], weights: Array
) -> Rule:
    """The regression on all, with the temperature that suits one that has not seen a part."""
    names = tuple(numbers)
    evidence = stacked(numbers, names).double()
    known = evidence[torch.from_numpy(verdict == 0)]
    quartiles = known.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=0)
    centre, width = quartiles[1], quartiles[2] - quartiles[0]
    # where half of ID is the same, as for a noise floor of zero, the whole spread counts, but no
    # spread that is rounding beside what else is seen
    least = 1e-3 * evidence.std(dim=0) + 1e-9
    width = torch.where(width > least, width, known.std(dim=0).clamp_min(least))
    terms = expanded(standardised(evidence, centre, width)).numpy()
    unit = terms.std(axis=0) + 1e-9
    out = next(_folds(source))
    part = _regression(terms[~out] / unit, verdict[~out], weights[~out])
    odds = part.decision_function(terms[out] / unit)
    temperature = _temperature(odds, verdict[out], weights[out])
    final = _regression(terms / unit, verdict, weights)
    matrix = torch.from_numpy(final.coef_ / unit / temperature)
    bias = torch.from_numpy(final.intercept_ / temperature)
    return Rule(names, centre, width, matrix, bias)


def _regression(x: Array, y: NDArray[Any], weights: Array) -> Any:
    return LogisticRegression(C=_PENALTY, max_iter=_MOST_STEPS, tol=_TOLERANCE).fit(
        x, y, sample_weight=weights
    )


def _temperature(odds: Array, verdict: NDArray[Any], weights: Array) -> float:
    """That which makes the probabilities of the right verdicts largest."""

    def loss(temperature: float) -> float:
        scaled = torch.from_numpy(odds / temperature).log_softmax(dim=1).numpy()
        return float(-(weights * scaled[np.arange(len(verdict)), verdict]).sum())

    return float(min(_TEMPERATURES, key=loss))
