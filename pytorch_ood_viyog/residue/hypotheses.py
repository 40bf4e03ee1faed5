"""
Gaussian hypotheses about a feature vector: what in-distribution data show, what they show with a
residue on top, and anything else.
"""

import math

import torch
from torch import Tensor

__all__ = ["fisher_contrast", "log_likelihoods", "shrunk_whitening", "whitening_of"]


def shrunk_whitening(centred: Tensor, shrinkage: float, floor: float = 1e-3) -> Tensor:
    """
    Whitening :math:`L^{-1}` of the shrunk covariance :math:`S = L L^\\top` of feature vectors
    minus the mean of their group, :math:`N \\times F`,

    .. math::
        S = (1 - \\alpha) \\hat S + \\alpha\\, \\mathrm{diag}(\\hat S) + floor \\cdot I
    """
    return whitening_of(centred.T @ centred / len(centred), shrinkage, floor)


def whitening_of(covariance: Tensor, shrinkage: float, floor: float = 1e-3) -> Tensor:
    """:return: what :func:`shrunk_whitening` gives, by :math:`\\hat S`"""
    diagonal = covariance.diagonal().diag()
    identity = torch.eye(len(covariance)).to(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * diagonal + floor * identity
    root = torch.linalg.cholesky(shrunk)
    whitening: Tensor = torch.linalg.solve_triangular(root, identity, upper=False)
    return whitening


def log_likelihoods(
    features: Tensor, means: Tensor, whitening: Tensor, levels: int, kappa: float
) -> Tensor:
    """
    Log-likelihoods, up to one constant, of the three hypotheses.

    - *ID*: :math:`\\mathcal{N}(\\mu_0, S)`
    - *ADV*: the mean over the residue levels of :math:`\\mathcal{N}(\\mu_l, S)`
    - *OOD*, anything else: the mean over the same centres, ID's too, of
      :math:`\\mathcal{N}(\\mu, \\kappa S)`, and over the levels beyond the budget of
      :math:`\\mathcal{N}(\\mu_l, S)`

    :param features: :math:`B \\times F`
    :param means: centres, one a row: ID, the residue levels, the levels beyond the budget
    :param whitening: :math:`L^{-1}` of :math:`S`, :math:`F \\times F`
    :param levels: number of residue levels
    :param kappa: :math:`\\kappa > 1`
    :return: :math:`B \\times 3` in the order ID, OOD, ADV
    """
    # whitened one by one; from ID's centre, so that no digits are lost
    ours, theirs = ((each - means[0]) @ whitening.T for each in (features, means))
    deviations = ours[:, None] - theirs
    # OpenVINO gets a sum of float64 wrong that is then divided, so that these multiply
    tight = -0.5 * deviations.square().sum(dim=2)
    near = tight[:, : levels + 1]
    wide = near * (1 / kappa) - features.shape[1] / 2 * math.log(kappa)
    anything = torch.cat([wide, tight[:, levels + 1 :]], dim=1)
    return torch.stack([tight[:, 0], _log_mean(anything), _log_mean(near[:, 1:])], dim=1)


def _log_mean(logs: Tensor) -> Tensor:
    return logs.logsumexp(dim=1) - math.log(logs.shape[1])


def fisher_contrast(inside: Tensor, outside: Tensor, shrinkage: float) -> Tensor:
    """
    .. math::
        w = S^{-1} (\\mu_1 - \\mu_0) \\,/\\, \\sqrt{(\\mu_1 - \\mu_0)^\\top S^{-1}
        (\\mu_1 - \\mu_0)}, \\qquad S = \\tfrac{1}{2} (S_0 + S_1) \\text{, shrunk}

    The groups of features, :math:`N \\times F` each, count alike, whatever their sizes. Features
    in which the second group spreads by itself, as it does along the strength of an attack, count
    less than those that tell it from the first. :math:`w^\\top f` is larger in the second group
    and has within the groups a standard deviation of about one.
    """
    groups = (inside, outside)
    total = len(inside) + len(outside)
    # rows are weighted so that each group has half of the covariance
    centred = torch.cat([(g - g.mean(dim=0)) * (total / 2 / len(g)) ** 0.5 for g in groups])
    whitening = shrunk_whitening(centred, shrinkage)
    shift = whitening @ (outside.mean(dim=0) - inside.mean(dim=0))
    contrast: Tensor = whitening.T @ shift / shift.norm().clamp_min(1e-12)
    return contrast
