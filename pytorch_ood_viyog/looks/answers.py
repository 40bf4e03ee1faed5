"""
How far two answers of a classifier to one sample are apart: pure functions of two logit vectors.
"""

import torch
from torch import Tensor

__all__ = ["log_odds", "lost_odds", "softmax_distance"]


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
    """
    :param logits: :math:`l`, shape :math:`B \\times C`, two or more classes
    :param answer: a class :math:`c` of each sample, shape :math:`B`
    :return: :math:`l_c - \\ln \\sum_{k \\neq c} \\exp l_k`, shape :math:`B`
    """
    exact = _exact(logits)
    chosen = torch.nn.functional.one_hot(answer, logits.shape[1]).bool()
    others = exact.masked_fill(chosen, -torch.inf).logsumexp(dim=1)
    return exact.masked_fill(~chosen, 0).sum(dim=1) - others


def _exact(logits: Tensor) -> Tensor:
    return logits.float() if logits.device.type == "mps" else logits.double()
