"""
Two answers to the same samples, and what ID samples have to say about them.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from typing_extensions import Self

from .answers import lost_odds, softmax_distance, surprise

__all__ = ["Comparison", "KnownAnswers", "Reference", "least_overruling"]


@dataclass(frozen=True)
class Comparison:
    """Both answers for a batch of :math:`B` samples."""

    #: logits of the first answer, :math:`B \\times C`
    first: Tensor
    #: logits of the second answer, :math:`B \\times C`
    second: Tensor
    #: strength of what was taken out, as a fraction of the inputs' range, shape :math:`B`
    strength: Tensor
    #: scores, larger where the answer hangs on what was taken out, shape :math:`B`
    scores: Tensor
    #: their p-values among ID samples, shape :math:`B`
    p_value: Tensor
    #: whether the second answer is another class, and so far from the first that it takes its
    #: place, which happens to at most ``max_flips`` of ID samples, shape :math:`B`
    overruled: Tensor

    @property
    def answer(self) -> Tensor:
        """Logits of the second answer where it overrules the first, else of the first."""
        return torch.where(self.overruled[:, None], self.second, self.first)

    @property
    def distance(self) -> Tensor:
        """See :func:`~pytorch_ood_viyog.looks.answers.softmax_distance`, shape :math:`B`."""
        return softmax_distance(self.first, self.second)

    @property
    def lost_odds(self) -> Tensor:
        """See :func:`~pytorch_ood_viyog.looks.answers.lost_odds`, shape :math:`B`."""
        return lost_odds(self.first, self.second)

    @property
    def changed(self) -> Tensor:
        """Whether the second answer is another class than the first, shape :math:`B`."""
        return self.first.argmax(dim=1) != self.second.argmax(dim=1)

    def __str__(self) -> str:
        lines = ["     first -> second  distance  lost odds   score      p"]
        answers = (each.argmax(dim=1) for each in (self.first, self.second))
        numbers = (*answers, self.distance, self.lost_odds, self.scores, self.p_value)
        columns = zip(*(each.tolist() for each in numbers), strict=True)
        lines += [
            f"{i:4d} {one:5d} -> {two:<6d}  {d:8.3f}  {e:9.2f}  {s:6.2f}  {p:.4f}"
            for i, (one, two, d, e, s, p) in enumerate(columns)
        ]
        return "\n".join(lines)


class _Tensors:
    """A dataclass of tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """:return: the fields by name"""
        return {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Self:
        """:return: the same on another device"""
        return type(self)(**{name: values.to(device) for name, values in self.tensors().items()})


@dataclass(frozen=True)
class Reference(_Tensors):
    """What ID samples show, each in ascending order, shape :math:`n`: it gives scores."""

    #: softmax distances
    distance: Tensor
    #: log-odds lost
    lost_odds: Tensor
    #: the sums of both surprises
    evidence: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> "Reference":
        """:return: the reference by logits of both answers to ID samples, :math:`n \\times C`"""
        distance = softmax_distance(first, second).sort().values
        odds = lost_odds(first, second).sort().values
        evidence = _evidence(distance, odds, first, second)
        return cls(distance, odds, evidence.sort().values)

    def scores(self, first: Tensor, second: Tensor) -> Tensor:
        """
        :param first: logits of the first answers, :math:`B \\times C`
        :param second: logits of the second answers
        :return: evidence, standardised on ID, shape :math:`B`
        """
        evidence = _evidence(self.distance, self.lost_odds, first, second)
        spread = self.evidence.std(correction=0)
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        return (evidence - self.evidence.mean()) / spread


@dataclass(frozen=True)
class KnownAnswers(_Tensors):
    """
    How ID samples behave that were used for nothing else: those of the fit that took no part in
    the choice, or calibration samples.
    """

    #: scores in ascending order, shape :math:`n`
    score: Tensor
    #: the softmax distance above which another answer overrules the first, no dimensions
    least: Tensor

    @classmethod
    def of(
        cls, reference: Reference, first: Tensor, second: Tensor, max_flips: float
    ) -> "KnownAnswers":
        """
        :param reference: gives scores
        :param first: logits of ID samples, :math:`n \\times C`
        :param second: logits of the second answers
        :param max_flips: share of ID answers that may be overruled
        :return: what they show
        """
        changed = first.argmax(dim=1) != second.argmax(dim=1)
        least = least_overruling(softmax_distance(first, second), changed, max_flips)
        return cls(reference.scores(first, second).sort().values, least)

    def p_values(self, scores: Tensor) -> Tensor:
        """:return: p-values of scores, shape :math:`B`"""
        return (-surprise(self.score, scores)).exp()

    def overruled(self, first: Tensor, second: Tensor) -> Tensor:
        """:return: whether the second answers take the place of the first, shape :math:`B`"""
        changed = first.argmax(dim=1) != second.argmax(dim=1)
        return changed & (softmax_distance(first, second) > self.least)


def least_overruling(distance: Tensor, changed: Tensor, max_flips: float) -> Tensor:
    """
    Of :math:`n` ID samples, the :math:`m`-th largest distance of those whose answer changed,
    :math:`m = \\lfloor max\\_flips \\cdot (n + 1) \\rfloor`. A new ID sample that is exchangeable
    with them has a changed answer beyond that distance with probability at most
    :math:`m / (n + 1)`.

    :param distance: softmax distances of ID samples, shape :math:`n`
    :param changed: whether their answers changed, shape :math:`n`
    :param max_flips: share of ID answers that may be overruled
    :return: the distance above which another answer overrules the first: minus infinity where
        fewer than :math:`m` answers changed, infinity where :math:`m = 0`; no dimensions
    """
    count = math.floor(max_flips * (len(distance) + 1) + 1e-9)
    if count == 0:
        return distance.new_tensor(torch.inf)
    if count > len(distance):
        return distance.new_tensor(-torch.inf)
    return distance.masked_fill(~changed, -torch.inf).sort(descending=True).values[count - 1]


def _evidence(distance: Tensor, odds: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return surprise(distance, softmax_distance(first, second)) + surprise(
        odds, lost_odds(first, second)
    )
