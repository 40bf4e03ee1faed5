"""
The likelihood ratio of attack-shaped residues and benign changes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..hypotheses import shrunk_whitening

__all__ = ["IntentRatio", "fit_ratio"]

# share of the covariance that is shrunk to its diagonal
_SHRINKAGE = 0.05


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
    #: standard deviation of :math:`r` within the groups of :math:`A`
    unit: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """
        :param features: :math:`B \\times F`
        :return: :math:`r` in units of its standard deviation, shape :math:`B`; 0 is undecided
        """
        projected = features @ self.projection.T
        return (_log_mean(projected, self.shaped) - _log_mean(projected, self.benign)) / self.unit


def fit_ratio(shaped: Sequence[Tensor], benign: Sequence[Tensor]) -> IntentRatio:
    """
    :param shaped: features of ID samples with an attack-shaped residue, :math:`N \\times F` each
    :param benign: features of ID samples with a benign change, :math:`N \\times F` each
    :return: the ratio
    """
    groups = [*shaped, *benign]
    means = torch.stack([group.mean(dim=0) for group in groups])
    centred = torch.cat([group - mean for group, mean in zip(groups, means, strict=True)])
    whitening = shrunk_whitening(centred, _SHRINKAGE)
    differences = (means - means.mean(dim=0)) @ whitening.T
    axes = _span(differences)
    projection = axes @ whitening
    centres = means @ projection.T
    ratio = IntentRatio(
        projection,
        centres[: len(shaped)],
        centres[len(shaped) :],
        torch.ones((), dtype=projection.dtype, device=projection.device),
    )
    values = [ratio(group) for group in shaped]
    within = torch.cat([value - value.mean() for value in values]).square().mean().sqrt()
    unit = torch.where(within > 0, within, torch.ones_like(within))
    return IntentRatio(projection, ratio.shaped, ratio.benign, unit)


def _span(rows: Tensor) -> Tensor:
    """An orthonormal basis of the rows, with a sign of its own, as rows."""
    _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
    basis = basis[sizes > 1e-9 * sizes[0].clamp_min(1e-30)]
    largest = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True))
    signed: Tensor = basis * largest.sign()
    return signed


def _log_mean(points: Tensor, centres: Tensor) -> Tensor:
    distances = (points[:, None] - centres).square().sum(dim=2)
    logs: Tensor = (-distances / 2).logsumexp(dim=1) - math.log(len(centres))
    return logs
