"""
The likelihood ratio of attack-shaped residues and benign changes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..hypotheses import whitening_of

__all__ = ["IntentRatio", "fit_ratio"]

# share of the covariance that is shrunk to its diagonal
_SHRINKAGE = 0.05
# parts of the samples that are judged by a ratio fitted to the other parts
_PARTS = 8


@dataclass(frozen=True)
class IntentRatio:
    """
    .. math::
        r(f) = \\ln \\frac{1}{|A|} \\sum_{a \\in A} \\mathcal{N}(f; \\mu_a, S)
        - \\ln \\frac{1}{|B|} \\sum_{b \\in B} \\mathcal{N}(f; \\mu_b, S)

    for the attack-shaped residues :math:`A` and the benign changes :math:`B`. As :math:`S` is
    shared, only the part of :math:`f` counts in which the means differ.
    """

    #: to coordinates in which the means differ and :math:`S` is the identity, :math:`D \\times F`
    projection: Tensor
    #: means of the attack-shaped residues in these, :math:`A \\times D`
    shaped: Tensor
    #: means of the benign changes, :math:`B \\times D`
    benign: Tensor
    #: standard deviation of :math:`r` within the groups of :math:`A`, as new samples have it
    unit: Tensor
    #: what attack-shaped residues of new samples nearly always exceed, in these units
    least_intent: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """
        :return: :math:`r` in units of its standard deviation, shape :math:`B`; 0 is undecided
        """
        projected = features @ self.projection.T
        return (_log_mean(projected, self.shaped) - _log_mean(projected, self.benign)) * (
            1 / self.unit
        )


def fit_ratio(
    shaped: Sequence[Tensor], benign: Sequence[Tensor], below_least: float = 0.01
) -> IntentRatio:
    """
    :param shaped: features of ID samples with an attack-shaped residue, :math:`N \\times F` each
    :param benign: features of the same ID samples with a benign change, :math:`N \\times F` each
    :param below_least: share of the attack-shaped residues that is below ``least_intent``
    """
    features = torch.stack([*shaped, *benign])
    means = features.mean(dim=1)
    centred = features - means[:, None]
    parts = min(_PARTS, features.shape[1])
    scatters = [_scatter(centred[:, part::parts]) for part in range(parts)]
    total, count = torch.stack(scatters).sum(dim=0), centred[:, :, 0].numel()
    ratio = _of_moments(means, total / count, len(shaped))
    values = _each(ratio, features[: len(shaped)])
    if features.shape[1] >= 4:  # each part is judged by the others, as new samples will be
        for part, scatter in enumerate(scatters):
            own = centred[:, part::parts]
            rest = features.shape[1] - own.shape[1]
            shift = -own.sum(dim=1) / rest
            covariance = (total - scatter - rest * shift.T @ shift) / (len(features) * rest)
            others = _of_moments(means + shift, covariance, len(shaped))
            values[:, part::parts] = _each(others, features[: len(shaped), part::parts])
    within = (values - values.mean(dim=1, keepdim=True)).square().mean().sqrt()
    unit = torch.where(within > 0, within, torch.ones_like(within))
    least = (values.flatten() / unit).quantile(below_least)
    return replace(ratio, unit=unit, least_intent=least)


def _of_moments(means: Tensor, covariance: Tensor, shaped: int) -> IntentRatio:
    """The ratio itself: its unit is one."""
    whitening = whitening_of(covariance, _SHRINKAGE)
    projection = _span((means - means.mean(dim=0)) @ whitening.T) @ whitening
    centres = means @ projection.T
    one = torch.ones((), dtype=means.dtype, device=means.device)
    return IntentRatio(projection, centres[:shaped], centres[shaped:], one, -one)


def _each(ratio: IntentRatio, groups: Tensor) -> Tensor:
    """Its values on groups of samples, one a row."""
    return ratio(groups.flatten(0, 1)).reshape(groups.shape[:2])


def _scatter(centred: Tensor) -> Tensor:
    rows = centred.flatten(0, 1)
    return rows.T @ rows


def _span(rows: Tensor) -> Tensor:
    """An orthonormal basis of the rows, with a sign of its own, as rows."""
    _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
    basis = basis[sizes > 1e-9 * sizes[0].clamp_min(1e-30)]
    largest = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True))
    signed: Tensor = basis * largest.sign()
    return signed


def _log_mean(points: Tensor, centres: Tensor) -> Tensor:
    distances = (points[:, None] - centres).square().sum(dim=2)
    logs: Tensor = (-0.5 * distances).logsumexp(dim=1) - math.log(len(centres))
    return logs
