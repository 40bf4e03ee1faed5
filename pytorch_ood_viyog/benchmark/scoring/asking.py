"""
Detectors by name, asked alone or together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_ood.api import Detector, GradientDetector
from torch import Tensor
from torch.nn import Module

from ...looks.logits import PickLogits
from ...pipeline.shared_forward import SharedForward

__all__ = ["named_detectors", "predicted", "shared_forward"]


def named_detectors(detector: Any) -> dict[str, Detector]:
    """
    :param detector: a detector, a list of detectors, or a dictionary of detectors by name
    :return: detectors by name; without names that of the class, numbered from the second on
    :raises TypeError: if there is something else than detectors
    :raises ValueError: if there are no detectors
    """
    if isinstance(detector, Detector):
        detector = [detector]
    if not isinstance(detector, (Mapping, Sequence)) or not detector:
        raise ValueError(f"detector must be one or several detectors, got {detector!r}.")
    values = list(detector.values()) if isinstance(detector, Mapping) else list(detector)
    strange = [type(value).__name__ for value in values if not isinstance(value, Detector)]
    if strange:
        raise TypeError(f"All detectors must be pytorch_ood.api.Detector, got {strange}.")
    if isinstance(detector, Mapping):
        return dict(detector)
    named: dict[str, Detector] = {}
    for value in values:
        name, number = type(value).__name__, 2
        while name in named:
            name, number = f"{type(value).__name__} ({number})", number + 1
        named[name] = value
    return named


def predicted(detector: Detector, x: Tensor) -> Tensor:
    """
    :param detector: a detector
    :param x: batch of images
    :return: its scores (B,) on the CPU
    :raises ValueError: if it gives something else
    """
    with torch.set_grad_enabled(isinstance(detector, GradientDetector)):
        scores: Tensor = detector.predict(x)
    if not isinstance(scores, Tensor) or scores.shape != x.shape[:1]:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"scores must be a tensor of shape ({len(x)},), got {got}")
    return scores.detach().cpu()


def shared_forward(
    model: Module, detectors: dict[str, Detector], logits: PickLogits | None
) -> SharedForward | None:
    """
    :param model: the model that the detectors judge
    :param detectors: detectors by name
    :param logits: picks the logits out of the model's output
    :return: one forward pass for all of them, ``None`` if they cannot share it
    """
    try:
        return SharedForward(model, detectors, logits=logits) if detectors else None
    except (TypeError, ValueError):  # they cannot share: different first layers, for example
        return None
