"""
The state of a Triage, and of any pytorch-ood detector in it, as plain tensors and numbers, which
load safely.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from pytorch_ood.api import Detector
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import Module, ParameterDict

from ..detectors.base import FirstLayerDetector
from ..detectors.residue import ViyogResidue
from ..detectors.same_way import SameWay
from ..images.pixel_range import PixelRange
from ..layer.first_layer import FirstLayer
from ..looks.logits import Answers
from ..pipeline.shared_forward import SharedForward
from .fitted_triage import FittedTriage
from .rule.learning import Learnt
from .rule.rule import Rule, Shape
from .rule.thresholds import Thresholds

__all__ = ["load_triage", "triage_state"]

#: another number where older states cannot be read any more
_VERSION = 6
# what belongs to whoever builds the detector, or is found anew
_NOT_STATE = (Module, FirstLayer, Answers, Detector, torch.device)


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
        "detectors": {n: _detector_state(n, d) for n, d in triage.pipeline.detectors.items()},
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
        _load_detector_state(detector, state["detectors"][name])
    triage.id_fpr, triage.noisy_fpr = (state["settings"][n] for n in ("id_fpr", "noisy_fpr"))
    triage.look, triage._fitted = state["look"], found


def _tensors(held: Any) -> dict[str, Any]:
    values = {field.name: getattr(held, field.name) for field in fields(held)}
    return {n: v.detach().cpu().clone() if isinstance(v, Tensor) else v for n, v in values.items()}


def _detector_state(name: str, detector: Detector) -> dict[str, Any]:
    """
    Settings and fitted state. Models, encoders and heads are left out: they belong to whoever
    builds the detector.
    """
    if _saves_itself(detector):
        return detector.state_dict()
    state = {}
    for attribute, value in vars(detector).items():
        fitted_module = isinstance(value, ParameterDict)  # KLMatching's
        if not fitted_module and (isinstance(value, _NOT_STATE) or callable(value)):
            continue
        if isinstance(value, NearestNeighbors):  # KNN's: its training features are all of it
            state[attribute] = torch.from_numpy(value._fit_X.copy())
            continue
        if not _is_plain(value):
            raise TypeError(
                f"Detector {name!r} ({type(detector).__name__}) keeps its state in "
                f"{attribute}={type(value).__name__}, which is no plain tensor or number. Store "
                f"it with pickle, or use another detector."
            )
        state[attribute] = _detached(value)
    return state


def _load_detector_state(detector: Detector, state: Mapping[str, Any]) -> None:
    if _saves_itself(detector):
        detector.load_state_dict(state)
        return
    if unknown := set(state) - set(vars(detector)):
        raise ValueError(
            f"The state does not belong to a {type(detector).__name__}: unknown {sorted(unknown)}."
        )
    for attribute, value in state.items():
        held = getattr(detector, attribute)
        if isinstance(held, NearestNeighbors):
            held.fit(value.numpy())
        else:
            setattr(detector, attribute, value)


@runtime_checkable
class _SavesItself(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...


def _saves_itself(detector: Any) -> TypeGuard[_SavesItself]:
    # a view reads what another detector of the same pipeline saves
    view = isinstance(detector, FirstLayerDetector) and detector.fits is not detector
    return isinstance(detector, _SavesItself) and not view


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(item) for item in (*value.keys(), *value.values()))
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (Tensor, bool, int, float, str))


def _detached(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_detached(item) for item in value)
    return value.detach().clone() if isinstance(value, Tensor) else value
