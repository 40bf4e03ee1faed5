"""
Two answers to the same samples, and what ID samples have to say about them.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .answers import lost_odds, softmax_distance
from .surprise import surprise

__all__ = ["Comparison", "Reference"]


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
    #: ``distance``, ``lost_odds`` and ``score`` -> p-values among ID samples, shape :math:`B`
    p_values: dict[str, Tensor]

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
        columns = zip(
            self.first.argmax(dim=1).tolist(),
            self.second.argmax(dim=1).tolist(),
            self.distance.tolist(),
            self.lost_odds.tolist(),
            self.scores.tolist(),
            self.p_values["score"].tolist(),
            strict=True,
        )
        lines += [
            f"{i:4d} {one:5d} -> {two:<6d}  {d:8.3f}  {e:9.2f}  {s:6.2f}  {p:.4f}"
            for i, (one, two, d, e, s, p) in enumerate(columns)
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Reference:
    """What ID samples show, each in ascending order, shape :math:`n`."""

    #: softmax distances
    distance: Tensor
    #: log-odds lost
    lost_odds: Tensor
    #: the sums of both surprises
    evidence: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> "Reference":
        """
        :param first: logits of ID samples, :math:`n \\times C`
        :param second: logits of the second answers
        :return: the reference
        """
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

    def p_values(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """
        :param first: logits of the first answers, :math:`B \\times C`
        :param second: logits of the second answers
        :return: ``distance``, ``lost_odds`` and ``score`` -> p-values of shape :math:`B`
        """
        evidence = _evidence(self.distance, self.lost_odds, first, second)
        surprises = {
            "distance": surprise(self.distance, softmax_distance(first, second)),
            "lost_odds": surprise(self.lost_odds, lost_odds(first, second)),
            "score": surprise(self.evidence, evidence),
        }
        return {name: (-values).exp() for name, values in surprises.items()}

    def tensors(self) -> dict[str, Tensor]:
        """:return: the fields by name"""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def to(self, device: torch.device) -> "Reference":
        """:return: the same on another device"""
        return Reference(**{name: values.to(device) for name, values in self.tensors().items()})


def _evidence(distance: Tensor, odds: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return surprise(distance, softmax_distance(first, second)) + surprise(
        odds, lost_odds(first, second)
    )
