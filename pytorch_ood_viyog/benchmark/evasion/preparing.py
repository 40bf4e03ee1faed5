"""
From what a user has (detectors, a triage, images) to what is attacked.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module

from ...layer.batches import batches, id_mask, in_batches
from ...triage.rule.conformal import conformal_threshold
from ...triage.triage import Triage
from .system import DetectorSystem, System, TriageSystem

__all__ = ["ALONE", "Given", "model_of", "named_systems", "systems_of"]

#: name of the classifier without a detector, to which the others are compared
ALONE = "classifier alone"

#: what can be attacked: a fitted detector or triage, or several by name
Given: TypeAlias = "Detector | Triage | Mapping[str, Detector | Triage]"

# images that gradients and randomness are tried on
_TRIED = 4
_CHANGE = 4 / 255
# a system that draws one of a few may draw the same one twice
_ASKED_AGAIN = 8


def named_systems(given: Given) -> dict[str, Detector | Triage]:
    """
    :param given: detectors and triages
    :return: them by name
    :raises TypeError: if something else is given
    :raises ValueError: if there are none, or one has the name of the classifier alone
    """
    one = not isinstance(given, Mapping)
    named: dict[str, Any] = {type(given).__name__: given} if one else dict(given)  # type: ignore
    if not named or ALONE in named:
        raise ValueError(
            f"system must be one or more detectors, none of them named {ALONE!r}, got "
            f"{list(named)}."
        )
    for name, each in named.items():
        if not isinstance(each, (Detector, Triage)):
            raise TypeError(
                f"system must be a fitted detector of pytorch-ood, a Triage, or several by name, "
                f"got {type(each).__name__} for {name!r}."
            )
    return named


def model_of(named: Mapping[str, Detector | Triage], model: Module | None) -> Module:
    """
    :param named: detectors and triages by name
    :param model: the classifier, where it is given
    :return: the classifier, or the first model that one of them has
    :raises TypeError: if ``model`` is something else
    :raises ValueError: if there is none
    """
    if model is not None and not isinstance(model, Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    for each in (model, *(getattr(each, "model", None) for each in named.values())):
        if isinstance(each, Module):
            return each
    raise ValueError(f"None of {list(named)} has a model. Pass the classifier by model=...")


def systems_of(
    named: Mapping[str, Detector | Triage],
    model: Module,
    calibration: Tensor | Iterable[Any] | None,
    alarms: float,
    x: Tensor,
    draws: int,
) -> dict[str, System]:
    """
    :param named: detectors and triages by name, fitted
    :param model: classifier of images in [0, 1], in evaluation mode
    :param calibration: ID images that thresholds of detectors are set on
    :param alarms: share of ID images that may raise an alarm
    :param x: some images, to find out whether there are gradients, and randomness
    :param draws: how often a system with random parts is asked
    :return: systems by name, the classifier alone first
    :raises ValueError: if there are no calibration images where they are needed, or too few
    """
    systems: dict[str, System] = {ALONE: System(model)}
    for name, each in named.items():
        if isinstance(each, Triage):
            system: System = TriageSystem(each)
        elif calibration is None:
            raise ValueError(
                f"{name!r} has no threshold. Pass ID images that neither the model nor the "
                f"detector was fitted on by calibration=... (a Triage has thresholds of its own)."
            )
        else:
            system = _with_threshold(name, each, model, calibration, alarms)
        system.differentiable = system.differentiable and _has_gradient(system, x[:_TRIED])
        system.draws = draws if _is_random(system, x[:_TRIED]) else 1
        systems[name] = system
    return systems


def _with_threshold(
    name: str,
    detector: Detector,
    model: Module,
    calibration: Tensor | Iterable[Any],
    alarms: float,
) -> DetectorSystem:
    unset = DetectorSystem(model, detector, 0.0, 1.0)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    read = batches(in_batches(calibration), "calibrate", False)
    scores = torch.cat([unset.scores(_known(x, y).to(device)).cpu().double() for x, y in read])
    limit = conformal_threshold(scores, alarms)
    return DetectorSystem(model, detector, limit, float(scores.std()) or 1.0)


def _known(x: Tensor, y: Any) -> Tensor:
    known = id_mask(y, x)
    return x if known is None else x[known]


@torch.no_grad()
def _is_random(system: System, x: Tensor) -> bool:
    first = system.watch(x).pressure
    for _ in range(_ASKED_AGAIN):
        torch.rand(1)  # the state of the generator would be the same
        if not torch.equal(first, system.watch(x).pressure):
            return True
    return False


def _has_gradient(system: System, x: Tensor) -> bool:
    # changed a little: clean images may be where scores are flat
    x = (x + _CHANGE * (2 * torch.rand(x.shape).to(x) - 1)).clamp(0, 1).requires_grad_()
    try:
        with torch.enable_grad():
            pressure = system.watch(x).pressure
            (gradient,) = torch.autograd.grad(pressure.sum(), x)
    except RuntimeError:  # no graph, or one that was cut
        return False
    return bool(gradient.isfinite().all()) and bool((gradient != 0).any())
