"""Systems that are attacked by ``hardening.py``: the package's, and what was tried on them.

All are fitted on ID images alone; p-values are among ID images that nothing was fitted on.
"""

from collections.abc import Callable

import torch
from hardening_detectors import (
    DrawnView,
    Floors,
    Loudest,
    LowOdds,
    MovedFeatures,
    TooQuiet,
    Views,
)
from hardening_views import CHANGES, PURIFIERS, SHIFTS
from pytorch_ood.api import Detector
from pytorch_ood.detector import EnergyBased
from torch import Tensor, nn

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.detectors import ResidueAlarm, ResidueOutlier
from pytorch_ood_viyog.looks import SecondLook
from pytorch_ood_viyog.triage import Fused

__all__ = ["BEFORE", "SYSTEMS", "Parts", "batches"]

#: ID samples
Batches = list[tuple[Tensor, Tensor]]


def batches(x: Tensor) -> Batches:
    """:return: images in batches, as ID samples"""
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in torch.split(x, 100)]


class Parts:
    """What systems are made of, fitted once."""

    def __init__(self, model: nn.Module, fit: Tensor, compared: Tensor):
        """
        :param model: classifier of images in [0, 1]
        :param fit: ID images to fit on
        :param compared: other ID images, for p-values
        """
        self.model = model
        self.known, self.compared = batches(fit), batches(compared)
        self.residue = ViyogResidue(model).fit(self.known)
        self.look = SecondLook(model, residue=self.residue).fit(self.known)

    def fused(self, kind: type[Fused] = Fused, method: str = "fisher", **parts: Detector) -> Fused:
        """
        :param kind: class of the fused detector
        :param method: how it puts p-values together
        :param parts: its parts
        :return: the fused detector, fitted
        """
        raw = [name for name, part in parts.items() if isinstance(part, Floors)]
        made = kind(self.model, parts, method=method, separate=raw)
        return made.fit(self.known, self.compared)

    def with_both(self, **third: Detector) -> Fused:
        """:return: residue and look, fused with a third"""
        return self.fused(residue=self.residue, look=self.look, **third)

    def panel(self) -> Fused:
        """:return: residue, smooth residue, its likelihood on ID, look and energy, any of them"""
        smooth = ResidueAlarm(self.residue, residues="smooth")
        outlier = ResidueOutlier(self.residue)
        first_layer = {"residue": self.residue, "smooth": smooth, "outlier": outlier}
        return self.fused(Loudest, look=self.look, energy=EnergyBased(None), **first_layer)

    def fitted(self, detector: Detector) -> Detector:
        """:return: a detector, fitted"""
        return detector.fit(self.known)


def too_quiet(parts: Parts) -> Detector:
    """:return: the other tail of the residue"""
    return TooQuiet(parts.residue)


#: what there was
BEFORE: dict[str, Callable[[Parts], Detector]] = {
    "ViyogResidue": lambda parts: parts.residue,
    "Fused (residue, look)": lambda parts: parts.with_both(),
}

#: these, and what was tried
SYSTEMS: dict[str, Callable[[Parts], Detector]] = BEFORE | {
    "both tails of the residue, look": lambda parts: parts.with_both(quiet=too_quiet(parts)),
    "residue, look by Stouffer": lambda parts: parts.fused(
        method="stouffer", residue=parts.residue, look=parts.look
    ),
    "residue, look, the largest": lambda parts: parts.fused(
        Loudest, residue=parts.residue, look=parts.look
    ),
    "panel of five, the largest": lambda parts: parts.panel(),
    "residue, look, energy": lambda parts: parts.with_both(energy=EnergyBased(None)),
    "residue, look, floors of channels and quarters": lambda parts: parts.with_both(
        floors=parts.fitted(Floors(parts.model))
    ),
    "residue, drawn view": lambda parts: parts.fused(
        residue=parts.residue, drawn=parts.fitted(DrawnView(parts.model, PURIFIERS | SHIFTS))
    ),
    "residue, all purifiers": lambda parts: parts.fused(
        residue=parts.residue, views=parts.fitted(Views(parts.model, PURIFIERS))
    ),
    "residue, look, changed views": lambda parts: parts.with_both(
        views=parts.fitted(Views(parts.model, CHANGES))
    ),
    "residue, look, features of moved views": lambda parts: parts.with_both(
        features=parts.fitted(MovedFeatures(parts.model, SHIFTS))
    ),
    "residue, look, odds in moved views": lambda parts: parts.with_both(
        odds=parts.fitted(LowOdds(parts.model, SHIFTS))
    ),
}
