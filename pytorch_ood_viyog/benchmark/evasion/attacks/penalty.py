"""
Rules that add both gradients up; with weight 0, an attacker who knows no detector.
"""

from dataclasses import dataclass

from torch import Tensor

from .descent import Rule
from .target import Attempt

__all__ = ["Penalty"]


@dataclass(frozen=True)
class Penalty(Rule):
    """
    Margin plus weight times pressure, both gradients of length 1.

    :param weight: of the pressure; 0 for an attacker who knows no detector
    """

    weight: float

    @property
    def knows_system(self) -> bool:  # type: ignore[override]
        """Whether there is a weight."""
        return self.weight > 0

    @property
    def heeds_from_start(self) -> bool:  # type: ignore[override]
        """Whether there is a weight."""
        return self.weight > 0

    def direction(self, fool: Tensor, calm: Tensor, attempt: Attempt) -> Tensor:
        """See :meth:`Rule.direction`."""
        return fool + self.weight * calm
