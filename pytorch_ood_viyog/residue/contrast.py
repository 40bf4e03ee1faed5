"""
Fisher's linear discriminant: the direction of a feature vector in which two groups differ most.
"""

import torch
from torch import Tensor

from .hypotheses import shrunk_whitening

__all__ = ["fisher_contrast"]


def fisher_contrast(inside: Tensor, outside: Tensor, shrinkage: float) -> Tensor:
    """
    .. math::
        w = S^{-1} (\\mu_1 - \\mu_0) \\,/\\, \\sqrt{(\\mu_1 - \\mu_0)^\\top S^{-1}
        (\\mu_1 - \\mu_0)}, \\qquad S = \\tfrac{1}{2} (S_0 + S_1) \\text{, shrunk}

    The groups count alike, whatever their sizes. Features in which the second group spreads by
    itself, as it does along the strength of an attack, count less than those that tell it from
    the first.

    :param inside: features of the first group, :math:`N_0 \\times F`
    :param outside: features of the second group, :math:`N_1 \\times F`
    :param shrinkage: share of the covariance that is shrunk to its diagonal
    :return: :math:`w` of shape :math:`F`; :math:`w^\\top f` is larger in the second group and has
        within the groups a standard deviation of about one
    """
    groups = (inside, outside)
    total = len(inside) + len(outside)
    # rows are weighted so that each group has half of the covariance
    centred = torch.cat([(g - g.mean(dim=0)) * (total / 2 / len(g)) ** 0.5 for g in groups])
    whitening = shrunk_whitening(centred, shrinkage)
    shift = whitening @ (outside.mean(dim=0) - inside.mean(dim=0))
    contrast: Tensor = whitening.T @ shift / shift.norm().clamp_min(1e-12)
    return contrast
