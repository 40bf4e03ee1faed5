"""
The state of a Triage as plain tensors and numbers.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import torch
from torch import Tensor

from ..detectors.residue import ViyogResidue
from ..detectors.same_way import SameWay
from ..images.pixel_range import PixelRange
from ..pipeline.saving import detector_state, load_detector_state
from ..pipeline.shared_forward import SharedForward
from .fitted_triage import FittedTriage
from .rule.learning import Learnt
from .rule.rule import Rule, Shape
from .rule.thresholds import Thresholds

__all__ = ["load_triage", "triage_state"]

#: another number where older states cannot be read any more
_VERSION = 6


class Saved(Protocol):
    """What is saved: a Triage."""

    pipeline: SharedForward
    id_fpr: float
    noisy_fpr: float
    look: Any
    residue: ViyogResidue
    _fitted: FittedTriage | None

    @property
    def fitted(self) -> FittedTriage:
        """What the fit found."""
        ...


def triage_state(triage: Saved) -> dict[str, Any]:
    """
    :param triage: fitted triage
    :return: its state
    """
    fitted = triage.fitted
    rule = fitted.rule
    return {
        "class": "Triage",
        "version": _VERSION,
        "detectors": {n: detector_state(n, d) for n, d in triage.pipeline.detectors.items()},
        "settings": {"id_fpr": triage.id_fpr, "noisy_fpr": triage.noisy_fpr},
        "look": fitted.look,
        "shaped_by": fitted.shaped_by,
        "populations": dict(fitted.populations),
        "pixels": _tensors(fitted.pixels),
        "thresholds": _tensors(fitted.thresholds),
        "shape": _tensors(rule.shape),
        "first": _tensors(rule.first),
        "full": None if rule.full is None else _tensors(rule.full),
        "open_above": rule.open_above.cpu().clone(),
        "drift": torch.from_numpy(fitted.drift.known.copy()),
    }


def load_triage(triage: Saved, state: Mapping[str, Any]) -> None:
    """
    :param triage: triage to fit
    :param state: what :func:`triage_state` gave
    :raises ValueError: if it is not the state of such a triage
    """
    if state.get("class") != "Triage" or state.get("version") != _VERSION:
        raise ValueError(
            f"state must be of a Triage of version {_VERSION}, got {state.get('class')} of "
            f"version {state.get('version')}. States of older versions cannot be read: fit the "
            f"triage again."
        )
    built, stored = list(triage.pipeline.detectors), list(state["detectors"])
    if built != stored:
        raise ValueError(f"state must be of a Triage with the evidence {built}, got {stored}.")
    full = state["full"]
    rule = Learnt(
        Shape(**state["shape"]),
        Rule(**state["first"]),
        None if full is None else Rule(**full),
        state["open_above"],
    )
    found = FittedTriage(
        rule,
        Thresholds(**state["thresholds"]),
        PixelRange(**state["pixels"]),
        state["look"],
        state["populations"],
        state["shaped_by"],
        SameWay(triage.residue).fit_readings(state["drift"].numpy()),
    )
    for name, detector in triage.pipeline.detectors.items():
        load_detector_state(detector, state["detectors"][name])
    triage.id_fpr, triage.noisy_fpr = (state["settings"][n] for n in ("id_fpr", "noisy_fpr"))
    triage.look, triage._fitted = state["look"], found


def _tensors(held: Any) -> dict[str, Any]:
    values = {field.name: getattr(held, field.name) for field in fields(held)}
    return {n: v.detach().cpu().clone() if isinstance(v, Tensor) else v for n, v in values.items()}
