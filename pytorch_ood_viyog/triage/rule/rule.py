"""
The rule from evidence to log-odds of the verdicts, as plain tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...residue.evidence import arsinh
from ..populations.verdict import ORDER, Verdict

__all__ = ["SHAPES", "Learnt", "Rule", "Shape", "expanded", "stacked", "standardised"]

#: names of what the residue's features say together
SHAPES = tuple(f"residue like {verdict.name}" for verdict in ORDER)


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
    :math:`\\mathrm{arsinh}((e - centre) / spread)` by median and distance of the quartiles on ID:
    0 for what is usual, and the logarithm of how far off it is.
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
    """First and second of each pair :math:`i \\leq j` of :math:`K` pieces of evidence."""
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
    """The numbers of these names as columns, :math:`B \\times K`."""
    return torch.stack([numbers[name] for name in names], dim=1)


@dataclass(frozen=True)
class Learnt:
    """What evidence says, and where the first pass leaves the verdict open."""

    #: reads the residue's features
    shape: Shape
    #: the rule on the first pass alone
    first: Rule
    #: the rule on all evidence; ``None`` without a second look
    full: Rule | None
    #: log-odds of ADV and ID in the first pass above which the model is asked again
    open_above: Tensor

    def asking(self, z: Tensor, share: float) -> "Learnt":
        """
        :param z: log-odds of new ID images after the first pass, :math:`n \\times 4`
        :param share: share of ID images that the model may be asked about again
        :return: the same, asking about so many of them
        """
        return replace(self, open_above=_adv_against_id(z).double().quantile(1 - share))

    def asked(self, z: Tensor, look: str) -> Tensor:
        """
        :param z: log-odds after the first pass, :math:`B \\times 4`
        :param look: ``"open"``, ``"always"`` or ``"never"``
        :return: whether the model is asked again, shape :math:`B`
        """
        adv = _adv_against_id(z)
        if look == "open":
            return adv > self.open_above.to(adv)
        return torch.full_like(adv, look == "always", dtype=torch.bool)


def _adv_against_id(z: Tensor) -> Tensor:
    return z[:, ORDER.index(Verdict.ADV)] - z[:, ORDER.index(Verdict.ID)]
