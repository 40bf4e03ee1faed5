"""
Checks on the detectors of a pipeline as a whole.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pytorch_ood.api import Detector
from torch.nn import Module

from .detector import FirstLayerDetector
from .first_layer import find_layer
from .guest import unwrap

__all__ = ["check_names", "common_layer"]

#: what a pipeline's table holds besides scores
_RESERVED = ("labels", "logits")


def check_names(detectors: Any, separate: Collection[str]) -> None:
    """
    :param detectors: what was given for the detectors of a pipeline
    :param separate: names of those that run by themselves
    :raises ValueError: if there are none, a name is taken, or ``separate`` names none of them
    :raises TypeError: if one is no detector
    """
    if not isinstance(detectors, Mapping) or not detectors:
        raise ValueError(f"detectors must map names to detectors, got {detectors!r}.")
    for name, detector in detectors.items():
        if not isinstance(name, str) or name in _RESERVED:
            raise ValueError(f"A detector's name must be text not in {_RESERVED}, got {name!r}.")
        if not isinstance(detector, Detector):
            raise TypeError(f"Detector {name!r} must be a pytorch-ood detector, got {detector!r}.")
    if unknown := set(separate) - set(detectors):
        raise ValueError(f"separate names no detectors: {sorted(unknown)}.")


def common_layer(
    model: Module, layer: str | Module | None, detectors: Mapping[str, FirstLayerDetector]
) -> str | None:
    """
    :param model: model of the pipeline
    :param layer: first layer that the user names for the pipeline
    :param detectors: first-layer detectors by name
    :return: dotted name of the layer that the user or a detector names, if any does
    :raises ValueError: if they name different layers, or a detector has another model
    """
    bare = unwrap(model)
    for name, detector in detectors.items():
        if detector.model is not None and unwrap(detector.model) is not bare:
            raise ValueError(
                f"Detector {name!r} has another model ({type(detector.model).__name__}) than "
                f"the pipeline ({type(bare).__name__}). Build it with None."
            )
    named = (layer, *(detector.layer for detector in detectors.values()))
    found = {find_layer(bare, one) for one in named if one is not None}
    if len(found) > 1:
        raise ValueError(f"All first-layer detectors must read one layer, got {sorted(found)}.")
    return found.pop() if found else None
