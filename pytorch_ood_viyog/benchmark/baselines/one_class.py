"""
One-class SVM of one layer's features, its kernel width chosen without outliers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

__all__ = ["Array", "OneClassLayer", "pseudo_outliers"]

Array = NDArray[np.float64]

# kernel widths γ that are tried, in units of 1 / number of features: standardised features are
# at a squared distance of about twice their number
_WIDTHS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_HELD_OUT = 0.3


def pseudo_outliers(features: Array, tolerance: float = 0.01) -> Array:
    """
    Points just outside the data, by edge pattern detection. With :math:`v_{ij}` the unit vectors
    from the :math:`k = \\lceil 5 \\log_{10} n \\rceil` nearest neighbours of :math:`x_i` to
    :math:`x_i`, and :math:`n_i = \\sum_j v_{ij}`, the point lies on the edge where
    :math:`v_{ij}^\\top n_i > 0` for at least a share :math:`1 - tolerance` of the neighbours:
    all of them are on one side. It is shifted outwards, along :math:`n_i`, by the mean distance
    of edge points to their neighbours.

    :param features: :math:`n \\times D`
    :param tolerance: share of neighbours that may lie on the other side
    :return: one pseudo-outlier for each edge point, shape :math:`m \\times D`
    :see Paper: Wang et al., *Hyperparameter selection of one-class support vector machine by
        self-adaptive data shifting*, Pattern Recognition 2018
    """
    neighbours = min(len(features) - 1, int(np.ceil(5 * np.log10(len(features)))))
    finder = NearestNeighbors(n_neighbors=neighbours + 1).fit(features)
    distances, indices = finder.kneighbors(features)
    away = features[:, None] - features[indices[:, 1:]]
    away /= np.maximum(np.linalg.norm(away, axis=2, keepdims=True), 1e-12)
    normals = away.sum(axis=1)
    # not >= 0: in the middle of evenly spaced points the directions cancel out
    ahead = np.einsum("nkd,nd->nk", away, normals) > 1e-9
    one_sided = ahead.mean(axis=1) >= 1 - tolerance
    lengths = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    edge: Array = features[one_sided]
    shift = distances[one_sided, 1:].mean() if len(edge) else 0.0
    outside: Array = edge + shift * (normals / lengths)[one_sided]
    return outside


@dataclass(frozen=True)
class OneClassLayer:
    """What a layer learned: standardisation, one-class SVM, and the scale of its ID scores."""

    scaler: Any
    svm: Any
    #: kernel width :math:`\\gamma` in units of one over the number of features
    width: float
    #: mean of the scores of unseen ID samples
    mean: float
    #: their standard deviation
    deviation: float

    @classmethod
    def fit(cls, features: Array, nu: float, seed: int) -> "OneClassLayer":
        """
        :param features: features of ID samples, shape :math:`n \\times D`, at least ten
        :param nu: upper bound of the share of ID samples that the SVM leaves outside
        :param seed: seed of the split into 70 % to fit on and 30 % to choose the width with
        :return: the fitted layer
        """
        order = np.random.default_rng(seed).permutation(len(features))
        held_out, kept = np.split(order, [max(2, int(_HELD_OUT * len(features)))])
        scaler = StandardScaler().fit(features[kept])
        train, test = scaler.transform(features[kept]), scaler.transform(features[held_out])
        outside = pseudo_outliers(test)
        with _numpy_as_found():
            machines = [
                OneClassSVM(nu=nu, gamma=width / features.shape[1]).fit(train) for width in _WIDTHS
            ]
        best = int(np.argmin([_balanced_error(svm, test, outside) for svm in machines]))
        scores = -machines[best].decision_function(test)
        deviation = max(float(scores.std()), 1e-12)
        return cls(scaler, machines[best], _WIDTHS[best], float(scores.mean()), deviation)

    def score(self, features: Array) -> Array:
        """
        :param features: shape :math:`B \\times D`
        :return: scores of shape :math:`B`, larger for anomalies; unseen ID samples have mean 0
            and standard deviation 1
        """
        if len(features) == 0:
            return np.empty(0)
        raw: Array = -self.svm.decision_function(self.scaler.transform(features))
        return (raw - self.mean) / self.deviation


@contextmanager
def _numpy_as_found() -> Iterator[None]:
    """scikit-learn draws a seed, which one-class SVMs do not use, from numpy's global state."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def _balanced_error(machine: Any, inside: Array, outside: Array) -> float:
    rejected = float((machine.predict(inside) < 0).mean())
    accepted = float((machine.predict(outside) > 0).mean()) if len(outside) else 0.0
    return (rejected + accepted) / 2
