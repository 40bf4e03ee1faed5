"""
How surprising a score is for ID data: its rank among ID scores, and beyond these a tail.
"""

import torch
from torch import Tensor

__all__ = ["surprise"]

# share of the reference scores that the tail is fitted to, and the fewest
_TAIL, _FEWEST = 0.05, 5
# scores closer than this share of the reference's spread count as equal in part, so that rounding
# does not move a rank
_BLUR = 0.01


def surprise(reference: Tensor, scores: Tensor) -> Tensor:
    """
    Minus the logarithm of a p-value. Up to the 95 % quantile :math:`t` of :math:`n` ID scores it
    is that of the rank; beyond, an exponential tail with the mean excess :math:`m` over
    :math:`t` goes on where ranks would all be the same:

    .. math::
        p(s) = \\begin{cases}
            (1 + \\sum_i \\mathrm{logistic}((s_i - s) / h)) / (n + 1) & s \\leq t \\\\
            p(t) \\exp(-(s - t) / m) & s > t
        \\end{cases}

    The logistic function with :math:`h`, a hundredth of the standard deviation, counts the ID
    scores that are as large, without jumps.

    Several of them add up to Fisher's statistic. Detectors differ in how far attacks lie beyond
    all ID samples; ranks among a few hundred samples cannot tell.

    :param reference: ID scores :math:`s_i` in ascending order, shape :math:`n`
    :param scores: scores :math:`s`, shape :math:`B`, larger for the anomaly looked for
    :return: :math:`-\\ln p(s) \\geq 0`, shape :math:`B`, in the type of ``reference``
    """
    count, scores = len(reference), scores.to(reference)
    first = max(0, min(count - _FEWEST, round((1 - _TAIL) * count)))
    limit = reference[first]
    least = torch.finfo(reference.dtype).eps * (1 + torch.maximum(-reference[0], reference[-1]))
    width = torch.maximum(_BLUR * reference.std(correction=0), least)
    excess = torch.maximum(reference[first:].mean() - limit, width)
    larger = ((reference - scores.clamp(max=limit)[:, None]) / width).sigmoid().sum(dim=1)
    ranked = -((1 + larger) / (count + 1)).log()
    return ranked + (scores - limit).clamp_min(0) / excess
