"""
The detectors that a Triage asks, unless it is told otherwise.
"""

from collections.abc import Mapping

from pytorch_ood.api import Detector
from pytorch_ood.detector import KNN, EnergyBased
from torch.nn import Module

from ...detectors.residue import ViyogResidue
from ...detectors.residue_view import ResidueView
from ...images.ways import Through
from .evidence import ANSWER, FLAT, LOOKS
from .rule import SHAPES

__all__ = ["chosen_evidence", "default_evidence"]

_NEIGHBOURS = 5


def default_evidence(residue: ViyogResidue) -> dict[str, Detector]:
    """
    :param residue: the detector whose fit all readings of the first layer share
    :return: detectors by name: the residue as a whole, and contrasted with ID images that have a
        white and a smooth one, and its strength; the energy of the logits; the nearest ID
        features
    """
    return {
        "ViyogResidue": residue,
        "ResidueAlarm": ResidueView(residue, reading="alarm"),
        "smooth residue": ResidueView(residue, reading="smooth alarm"),
        "noise floor": ResidueView(residue, reading="noise floor"),
        "EnergyBased": EnergyBased(None),
        "KNN": KNN(None, k=_NEIGHBOURS),
    }


def chosen_evidence(
    given: Mapping[str, Detector | None], model: Module, through: Through | None
) -> dict[str, Detector]:
    """
    :param given: detectors by name that are added or replace others; ``None`` leaves one out
    :param model: classifier
    :param through: the way between an attacker and the model, if there is one
    :return: all detectors by name
    :raises TypeError: if one is no detector
    :raises ValueError: if a name is taken or unknown, or there is no :class:`ViyogResidue`
    """
    own = given.get("ViyogResidue")
    residue = own if isinstance(own, ViyogResidue) else ViyogResidue(model, through=through)
    chosen = default_evidence(residue)
    taken = {*ANSWER, *SHAPES, FLAT, *(f"{look} distance" for look in LOOKS)}
    for name, detector in given.items():
        if name in taken:
            raise ValueError(f"evidence must not have the name {name!r}: a Triage reads that.")
        if detector is None and name not in chosen:
            raise ValueError(f"evidence has no {name!r} to leave out, but {list(chosen)}.")
        if detector is not None and not isinstance(detector, Detector):
            kind = type(detector).__name__
            raise TypeError(f"evidence {name!r} must be a pytorch-ood detector, got {kind}.")
        if detector is None:
            del chosen[name]
        else:
            chosen[name] = detector
    if not any(isinstance(detector, ViyogResidue) for detector in chosen.values()):
        raise ValueError(
            "evidence must keep a ViyogResidue, whose features are read: replace it by another "
            "one, or leave it."
        )
    return chosen
