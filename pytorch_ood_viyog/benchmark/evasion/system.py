"""
What is attacked: a classifier alone, with a detector and its threshold, or with a triage.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from pytorch_ood.api import Detector, GradientDetector
from torch import Tensor
from torch.nn import Module

from ...detectors.residue import ViyogResidue
from ...detectors.residue_view import ResidueView
from ...layer.batches import batches, id_mask, in_batches
from ...layer.manners import device_of, unwrap
from ...looks.logits import picked_logits
from ...triage.populations.verdict import ORDER, Verdict
from ...triage.rule.conformal import conformal_threshold
from ...triage.triage import Triage
from .gradients import gradients_to_input

__all__ = [
    "ALONE",
    "DetectorSystem",
    "Given",
    "System",
    "TriageSystem",
    "Watch",
    "model_of",
    "named_systems",
    "systems_of",
]

#: name of the classifier without a detector, to which the others are compared
ALONE = "classifier alone"

#: what can be attacked: a fitted detector or triage, or several by name
Given: TypeAlias = "Detector | Triage | Mapping[str, Detector | Triage]"

# images that gradients and randomness are tried on
_TRIED = 4
_CHANGE = 4 / 255
# how often one with random parts is asked; it may draw the same one of a few twice
_DRAWS = 8


class Watch(NamedTuple):
    """What watches over a classifier makes of :math:`B` images."""

    #: how close to an alarm, in standard deviations of ID scores; downhill, none is raised
    pressure: Tensor
    #: whether one is raised; with random parts, in more than half of the draws
    alarm: Tensor


class System:
    """A classifier of images in [0, 1] that nobody watches over; subclasses say who does."""

    #: whether the pressure has a gradient
    differentiable: bool = True
    #: how often it is asked about the same image: more than once where it has random parts
    draws: int = 1
    #: the detector whose quiet directions the attacker may know, if there is one
    residue: ViyogResidue | None = None

    def __init__(self, model: Module):
        self.model = model

    def classify(self, x: Tensor) -> Tensor:
        """:return: logits of the classifier, :math:`B \\times C`, with gradients if ``x`` has"""
        with gradients_to_input(self.model):
            return picked_logits(self.model(x), None, len(x), unwrap(self.model))

    def watch(self, x: Tensor) -> Watch:
        """:return: what the attacker sees, with gradients if ``x`` and the system have"""
        drawn = []
        for _ in range(self.draws):
            if self.differentiable:
                with gradients_to_input(self.model):
                    drawn.append(self._watch(x))
            else:
                with torch.no_grad():
                    drawn.append(self._watch(x.detach()))
            torch.rand(1)  # systems leave the random state as found: without this, no new draw
        pressure, alarm = map(torch.stack, zip(*drawn, strict=True))
        return Watch(pressure.mean(dim=0), alarm.float().mean(dim=0) > 0.5)

    def _watch(self, x: Tensor) -> Watch:
        none = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        return Watch(none, none.bool())


class DetectorSystem(System):
    """A fitted detector of pytorch-ood with a threshold, and the spread of its ID scores."""

    def __init__(self, model: Module, detector: Detector, threshold: float, spread: float):
        super().__init__(model)
        self.detector, self.threshold, self.spread = detector, threshold, spread
        # these differentiate the model themselves, and would see their own gradients change
        self._differentiates = isinstance(detector, GradientDetector)
        self.differentiable = not self._differentiates
        pipeline = getattr(detector, "pipeline", None)
        for each in (detector, *getattr(pipeline, "detectors", {}).values()):
            each = each.residue if isinstance(each, ResidueView) else each
            if self.residue is None and isinstance(each, ViyogResidue):
                self.residue = each

    def _watch(self, x: Tensor) -> Watch:
        scores = self.scores(x)
        return Watch(((scores - self.threshold) / self.spread).to(x), scores > self.threshold)

    def scores(self, x: Tensor) -> Tensor:
        """:return: scores by the detector's public method, shape :math:`B`"""
        with torch.set_grad_enabled(self._differentiates or torch.is_grad_enabled()):
            scores: Tensor = self.detector.predict(x).to(x.device)
        return scores if self.differentiable else scores.detach()


class TriageSystem(System):
    """A fitted triage, by its own thresholds: what it calls ID or NOISY passes."""

    def __init__(self, triage: Triage):
        super().__init__(triage.model)
        self.triage, self.residue = triage, triage.residue

    def _watch(self, x: Tensor) -> Watch:
        z, thresholds = self.triage.read(x).z, self.triage.fitted.thresholds
        # NOISY passes
        caught = z[:, [ORDER.index(Verdict.OOD), ORDER.index(Verdict.ADV)]].logsumexp(dim=1)
        pressure = caught - z[:, ORDER.index(Verdict.ID)] - float(thresholds.alarm)
        verdicts = thresholds.verdicts(z).to(x.device)
        passes = (verdicts == int(Verdict.ID)) | (verdicts == int(Verdict.NOISY))
        return Watch(pressure.to(x), ~passes)


def named_systems(given: Given) -> dict[str, Detector | Triage]:
    """:return: detectors and triages by name"""
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
    """:return: the classifier as given, or the first model that a system has"""
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
) -> dict[str, System]:
    """
    Systems by name, the classifier alone first: thresholds of detectors are such that a share of
    the calibration images raises an alarm; some images tell whether there are gradients, and
    randomness.
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
            system = _with_threshold(each, model, calibration, alarms)
        system.differentiable = system.differentiable and _has_gradient(system, x[:_TRIED])
        system.draws = _DRAWS if _is_random(system, x[:_TRIED]) else 1
        systems[name] = system
    return systems


@torch.no_grad()
def _with_threshold(
    detector: Detector, model: Module, calibration: Tensor | Iterable[Any], alarms: float
) -> DetectorSystem:
    unset, scores = DetectorSystem(model, detector, 0.0, 1.0), []
    for x, y in batches(in_batches(calibration), "calibrate", False):
        known = id_mask(y, x)
        x = x if known is None else x[known]
        scores.append(unset.scores(x.to(device_of(model))).cpu().double())
    every = torch.cat(scores)
    limit = conformal_threshold(every, alarms)
    return DetectorSystem(model, detector, limit, float(every.std()) or 1.0)


@torch.no_grad()
def _is_random(system: System, x: Tensor) -> bool:
    first, *others = (system.watch(x).pressure for _ in range(1 + _DRAWS))
    return not all(torch.equal(first, other) for other in others)


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
