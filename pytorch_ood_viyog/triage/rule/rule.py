"""
The rule from evidence to log-odds of the verdicts, as plain tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...residue.evidence import arsinh

__all__ = ["Rule", "Shape", "expanded", "standardised"]


@dataclass(frozen=True)
class Shape:
    """
    Linear readings of many features: how much they speak for each verdict,

    .. math:: A\\, \\mathrm{arsinh}((f - m) / s) + b
    """

    #: :math:`m`, shape :math:`F`
    mean: Tensor
    #: :math:`s`, shape :math:`F`
    scale: Tensor
    #: :math:`A`, :math:`V \\times F` for the :math:`V` verdicts
    weights: Tensor
    #: :math:`b`, shape :math:`V`
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """
        :param features: :math:`B \\times F`
        :return: :math:`B \\times V`
        """
        scaled = arsinh((features.double() - self.mean) * (1 / self.scale))
        return scaled @ self.weights.T + self.bias


def standardised(evidence: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """
    :param evidence: :math:`e`, :math:`B \\times K`
    :param centre: median on ID, shape :math:`K`
    :param spread: distance of the quartiles on ID, shape :math:`K`
    :return: :math:`\\mathrm{arsinh}((e - centre) / spread)`: 0 for what is usual, and the
        logarithm of how far off it is
    """
    return arsinh((evidence - centre) * (1 / spread))


def expanded(u: Tensor) -> Tensor:
    """
    :param u: standardised evidence, :math:`B \\times K`
    :return: :math:`u_i`, :math:`|u_i|` (evidence counts in both directions) and
        :math:`u_i u_j`, :math:`B \\times (2 K + K (K + 1) / 2)`
    """
    i, j = pairs(u.shape[1])
    return torch.cat([u, u.abs(), u[:, i] * u[:, j]], dim=1)


def pairs(count: int) -> tuple[list[int], list[int]]:
    """
    :param count: number of pieces of evidence :math:`K`
    :return: first and second of each pair :math:`i \\leq j`
    """
    found = [(i, j) for i in range(count) for j in range(i, count)]
    return [i for i, _ in found], [j for _, j in found]


@dataclass(frozen=True)
class Rule:
    """
    Multinomial logistic regression on evidence :math:`e`:

    .. math::
        z(e) = W \\phi(u) + b, \\qquad u_k = \\mathrm{arsinh}\\frac{e_k - m_k}{q_k},
        \\qquad p(v \\mid e) = \\mathrm{softmax}(z)_v

    with :math:`\\phi` of :func:`expanded`. As :math:`\\phi(0) = 0`, what all terms of one piece of
    evidence add to :math:`z` is what it says beyond the ID median.
    """

    #: names of the :math:`K` pieces of evidence
    names: tuple[str, ...]
    #: :math:`m`, shape :math:`K`
    centre: Tensor
    #: :math:`q`, shape :math:`K`
    spread: Tensor
    #: :math:`W`, one row for each verdict
    weights: Tensor
    #: :math:`b`, shape :math:`V`
    bias: Tensor

    def __call__(self, numbers: Mapping[str, Tensor]) -> Tensor:
        """
        :param numbers: name -> evidence of shape :math:`B`
        :return: :math:`z`, :math:`B \\times V`
        """
        return expanded(self._standardised(numbers)) @ self.weights.T + self.bias

    def contributions(self, numbers: Mapping[str, Tensor]) -> Tensor:
        """
        :param numbers: name -> evidence of shape :math:`B`
        :return: what each piece adds to :math:`z`, :math:`B \\times K \\times V`; a pair's term
            is shared between both. Their sum and :math:`b` are :math:`z`.
        """
        terms = expanded(self._standardised(numbers))[:, :, None] * self.weights.T
        count = len(self.names)
        own = terms[:, :count] + terms[:, count : 2 * count]
        i, j = pairs(count)
        half = terms[:, 2 * count :] / 2
        own = own.index_add(1, torch.tensor(i, device=own.device), half)
        return own.index_add(1, torch.tensor(j, device=own.device), half)

    def _standardised(self, numbers: Mapping[str, Tensor]) -> Tensor:
        evidence = stacked(numbers, self.names)
        return standardised(evidence, self.centre.to(evidence), self.spread.to(evidence))


def stacked(numbers: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """:return: the numbers of these names as columns, :math:`B \\times K`"""
    return torch.stack([numbers[name] for name in names], dim=1)
