"""
What is attacked: a classifier alone, with a detector and its threshold, or with a triage.
"""

from typing import NamedTuple

import torch
from pytorch_ood.api import Detector, GradientDetector
from torch import Tensor
from torch.nn import Module

from ...detectors.residue import ViyogResidue
from ...detectors.residue_view import ResidueView
from ...layer.manners import unwrap
from ...looks.logits import picked_logits
from ...triage.populations.verdict import ORDER, Verdict
from ...triage.triage import Triage
from .gradients import gradients_to_input

__all__ = ["DetectorSystem", "System", "TriageSystem", "Watch"]


class Watch(NamedTuple):
    """What watches over a classifier makes of a batch of :math:`B` images."""

    #: how close to an alarm, in standard deviations of ID scores, shape :math:`B`; its gradient
    #: leads away from all alarms
    pressure: Tensor
    #: whether an alarm is raised, shape :math:`B`
    alarm: Tensor


class System:
    """A classifier that nobody watches over; subclasses say who does."""

    #: whether the pressure has a gradient
    differentiable: bool = True
    #: how often it is asked about the same image: more than once where it has random parts
    draws: int = 1
    #: the detector whose quiet directions the attacker may know, if there is one
    residue: ViyogResidue | None = None

    def __init__(self, model: Module):
        """:param model: classifier of images in [0, 1]"""
        self.model = model

    def classify(self, x: Tensor) -> Tensor:
        """
        :param x: images in [0, 1]; if they require gradients, the answer has them
        :return: logits of the classifier, :math:`B \\times C`
        """
        with gradients_to_input(self.model):
            return picked_logits(self.model(x), None, len(x), unwrap(self.model))

    def watch(self, x: Tensor) -> Watch:
        """
        :param x: images in [0, 1]; if they require gradients, the answer has them where the
            system is differentiable
        :return: what the attacker sees
        """
        if self.differentiable:
            with gradients_to_input(self.model):
                return self._watch(x)
        with torch.no_grad():
            return self._watch(x.detach())

    def _watch(self, x: Tensor) -> Watch:
        none = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        return Watch(none, none.bool())

    def passes(self, x: Tensor) -> Tensor:
        """
        :param x: images in [0, 1]
        :return: whether the system lets the images pass, by its public methods, shape :math:`B`
        """
        return torch.ones(len(x), dtype=torch.bool, device=x.device)


class DetectorSystem(System):
    """A detector of pytorch-ood with a threshold."""

    def __init__(self, model: Module, detector: Detector, threshold: float, spread: float):
        """
        :param model: classifier of images in [0, 1]
        :param detector: fitted detector
        :param threshold: score above which an alarm is raised
        :param spread: standard deviation of the scores of ID images
        """
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
        with torch.set_grad_enabled(self._differentiates or torch.is_grad_enabled()):
            scores = self.detector.predict(x).to(x.device)
        if not self.differentiable:
            scores = scores.detach()
        pressure = (scores - self.threshold) / self.spread
        return Watch(pressure.to(x), scores > self.threshold)

    def scores(self, x: Tensor) -> Tensor:
        """
        :param x: images in [0, 1]
        :return: scores by the detector's public method, shape :math:`B`
        """
        with torch.set_grad_enabled(self._differentiates):
            scores: Tensor = self.detector.predict(x)
        return scores.detach().to(x.device)

    def passes(self, x: Tensor) -> Tensor:
        """See :meth:`System.passes`: no alarm."""
        return self.scores(x) <= self.threshold


class TriageSystem(System):
    """
    A fitted :class:`~pytorch_ood_viyog.triage.triage.Triage`, by its own thresholds: what it calls
    ID or NOISY passes.
    """

    def __init__(self, triage: Triage):
        """:param triage: fitted triage"""
        super().__init__(triage.model)
        self.triage, self.residue = triage, triage.residue

    def _watch(self, x: Tensor) -> Watch:
        z, thresholds = self.triage.read(x).z, self.triage.fitted.thresholds
        # NOISY passes
        caught = z[:, [ORDER.index(Verdict.OOD), ORDER.index(Verdict.ADV)]].logsumexp(dim=1)
        pressure = caught - z[:, ORDER.index(Verdict.ID)] - float(thresholds.alarm)
        return Watch(pressure.to(x), ~_passing(thresholds.verdicts(z)).to(x.device))

    @torch.no_grad()
    def passes(self, x: Tensor) -> Tensor:
        """See :meth:`System.passes`: the verdict is ID or NOISY."""
        return _passing(self.triage.predict(x)).to(x.device)


def _passing(verdicts: Tensor) -> Tensor:
    return (verdicts == int(Verdict.ID)) | (verdicts == int(Verdict.NOISY))
