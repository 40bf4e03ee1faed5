"""
What a Triage holds once it is fitted, and its state as plain tensors and numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from ..detectors.residue import ViyogResidue
from ..detectors.same_way import SameWay
from ..images.pixel_range import PixelRange
from .rule.rule import Learnt, Rule, Shape
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

    def state(self) -> dict[str, Any]:
        """:return: all of it as plain tensors and numbers"""
        rule = self.rule
        return {
            "look": self.look,
            "shaped_by": self.shaped_by,
            "populations": dict(self.populations),
            "pixels": _tensors(self.pixels),
            "thresholds": _tensors(self.thresholds),
            "shape": _tensors(rule.shape),
            "first": _tensors(rule.first),
            "full": None if rule.full is None else _tensors(rule.full),
            "open_above": rule.open_above.cpu().clone(),
            "drift": torch.from_numpy(self.drift.known.copy()),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], residue: ViyogResidue) -> Self:
        """
        :param state: what :meth:`state` gave
        :param residue: the detector that reads whether images come the same way
        :return: the same again
        """
        full = state["full"]
        return cls(
            Learnt(
                Shape(**state["shape"]),
                Rule(**state["first"]),
                None if full is None else Rule(**full),
                state["open_above"],
            ),
            Thresholds(**state["thresholds"]),
            PixelRange(**state["pixels"]),
            state["look"],
            state["populations"],
            state["shaped_by"],
            SameWay(residue).fit_readings(state["drift"].numpy()),
        )


def _tensors(held: Any) -> dict[str, Any]:
    values = {field.name: getattr(held, field.name) for field in fields(held)}
    return {n: v.detach().cpu().clone() if isinstance(v, Tensor) else v for n, v in values.items()}
