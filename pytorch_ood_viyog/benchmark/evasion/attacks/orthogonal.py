"""
Rules that go for one of the two at a time: the classifier until it is wrong, then the detector.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .descent import Rule
from .target import Attempt

__all__ = ["Alternating"]


@dataclass(frozen=True)
class Alternating(Rule):
    """
    Selective PGD, or with ``orthogonal`` OPGD: each step leaves out what would undo the other
    aim.

    :param orthogonal: project each gradient off the other
    :see: Bryniarski et al., *Evading Adversarial Example Detection Defenses with Orthogonal
        Projected Gradient Descent*, ICLR 2022
    """

    orthogonal: bool = False

    @property
    def heeds_from_start(self) -> bool:  # type: ignore[override]
        """Whether the other gradient is projected off."""
        return self.orthogonal

    def direction(self, fool: Tensor, calm: Tensor, attempt: Attempt) -> Tensor:
        """See :meth:`Rule.direction`."""
        wrong = (attempt.margin < 0).view(-1, 1, 1, 1)
        if self.orthogonal:
            along = (fool * calm).sum(dim=(1, 2, 3), keepdim=True)
            fool, calm = fool - along * calm, calm - along * fool
        return torch.where(wrong, calm, fool)
