"""
How far two answers of a classifier to one sample are apart, and how surprising that is for ID
data: pure functions.
"""

import torch
from torch import Tensor

__all__ = ["log_odds", "lost_odds", "softmax_distance", "surprise"]

# share of the reference scores that the tail is fitted to, and the fewest
_TAIL, _FEWEST = 0.05, 5
# scores closer than this share of the reference's spread count as equal in part, so that rounding
# does not move a rank
_BLUR = 0.01


def softmax_distance(first: Tensor, second: Tensor) -> Tensor:
    """
    .. math:: d = \\sum_k | p_k - p'_k |, \\qquad p = \\mathrm{softmax}(l)

    :param first: logits :math:`l` of the first answer, :math:`B \\times C`
    :param second: logits :math:`l'` of the second answer, :math:`B \\times C`
    :return: distances in [0, 2], shape :math:`B`, float64 where the device has it
    :see: Xu et al., *Feature Squeezing*, NDSS 2018
    """
    return (_exact(first).softmax(dim=1) - _exact(second).softmax(dim=1)).abs().sum(dim=1)


def lost_odds(first: Tensor, second: Tensor) -> Tensor:
    """
    How much of the evidence for the first answer :math:`c = \\arg\\max_k l_k` is gone in the
    second:

    .. math:: e = o_c(l) - o_c(l'), \\qquad o_c(l) = l_c - \\ln \\sum_{k \\neq c} \\exp l_k

    Unlike probabilities, log-odds do not saturate: what an attack put on top of an answer shows
    also where the answer stays.

    :param first: logits :math:`l` of the first answer, :math:`B \\times C`
    :param second: logits :math:`l'` of the second answer, :math:`B \\times C`
    :return: log-odds lost, negative where the second answer is surer, shape :math:`B`
    """
    answer = first.argmax(dim=1)
    return log_odds(first, answer) - log_odds(second, answer)


def log_odds(logits: Tensor, answer: Tensor) -> Tensor:
    """:return: :math:`o_c` of a class of each sample, shape :math:`B`"""
    exact = _exact(logits)
    chosen = torch.nn.functional.one_hot(answer, logits.shape[1]).bool()
    others = exact.masked_fill(chosen, -torch.inf).logsumexp(dim=1)
    return exact.masked_fill(~chosen, 0).sum(dim=1) - others


def _exact(logits: Tensor) -> Tensor:
    return logits.float() if logits.device.type == "mps" else logits.double()


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
