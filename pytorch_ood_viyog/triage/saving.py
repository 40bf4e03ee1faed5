"""
The state of any pytorch-ood detector as plain tensors and numbers, which load safely.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from pytorch_ood.api import Detector
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import Module, ParameterDict

from ..detectors.base import FirstLayerDetector
from ..layer.first_layer import FirstLayer
from ..looks.logits import Answers

__all__ = ["detector_state", "load_detector_state"]

# what belongs to whoever builds the detector, or is found anew
_NOT_STATE = (Module, FirstLayer, Answers, Detector, torch.device)


def detector_state(name: str, detector: Detector) -> dict[str, Any]:
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


def load_detector_state(detector: Detector, state: Mapping[str, Any]) -> None:
    """The detector is then fitted as the one whose state it is."""
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
