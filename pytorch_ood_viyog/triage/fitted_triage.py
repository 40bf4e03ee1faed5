"""
What a Triage holds once it is fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..detectors.same_way import SameWay
from ..images.pixel_range import PixelRange
from .rule.learning import Learnt
from .rule.thresholds import Thresholds

__all__ = ["FittedTriage"]


@dataclass(frozen=True)
class FittedTriage:
    """Rule, thresholds, and what they came from."""

    rule: Learnt
    thresholds: Thresholds
    #: black and white of the inputs
    pixels: PixelRange
    #: when the model is asked again: ``"open"``, ``"always"`` or ``"never"``
    look: str
    #: number of images of each population that the rule was learnt from
    populations: Mapping[str, int]
    #: what shaped the attacks: the model's ``"gradients"`` or its first layer's ``"filters"``
    shaped_by: str
    #: tells whether images come the way of the calibration images
    drift: SameWay

    def summary(self) -> list[str]:
        """:return: lines for people"""
        counts = ", ".join(f"{name} {count}" for name, count in self.populations.items())
        return [
            f"learnt from {counts} (attacks by {self.shaped_by})",
            f"alarm above log-odds {float(self.thresholds.alarm):.3g} on "
            f"{self.thresholds.known.shape[1]} ID images, ADV above "
            f"{float(self.thresholds.least_adv):.3g} against OOD and NOISY",
        ]
