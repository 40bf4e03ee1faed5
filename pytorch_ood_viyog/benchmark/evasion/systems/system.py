"""
What is attacked: a classifier, and what may raise an alarm about its inputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pytorch_ood.api import Detector, GradientDetector
from torch import Tensor
from torch.nn import Module

from ....detectors.residue import ViyogResidue
from ....detectors.residue_view import ResidueView
from ....layer.manners import unwrap
from ....looks.logits import picked_logits
from .gradients import WithGradients

__all__ = ["ClassifierAlone", "DetectorSystem", "System", "Watch", "gradients_to_input"]


@dataclass(frozen=True)
class Watch:
    """What watches over a classifier makes of a batch of :math:`B` images."""

    #: how close to an alarm, in standard deviations of ID scores, shape :math:`B`; its gradient
    #: leads away from all alarms
    pressure: Tensor
    #: whether an alarm is raised, shape :math:`B`
    alarm: Tensor


class System(ABC):
    """A classifier together with what decides whether its answers are to be trusted."""

    #: whether the pressure has a gradient
    differentiable: bool = True
    #: how often it is asked about the same image: more than once where it has random parts
    draws: int = 1

    def __init__(self, model: Module):
        """:param model: classifier of images in [0, 1]"""
        self.model = model

    def look(self, x: Tensor) -> tuple[Tensor, Watch]:
        """
        :param x: images in [0, 1]; if they require gradients, the answer has them
        :return: logits, :math:`B \\times C`, and what the attacker sees beside them
        """
        if not self.differentiable:
            return self.classify(x), self.watch(x)
        with gradients_to_input(self.model):
            return self._look(x)

    def classify(self, x: Tensor) -> Tensor:
        """
        :param x: images in [0, 1]; if they require gradients, the answer has them
        :return: logits of the classifier, :math:`B \\times C`
        """
        with gradients_to_input(self.model):
            return self._answers(x)

    def watch(self, x: Tensor) -> Watch:
        """
        :param x: images in [0, 1]; if they require gradients, the answer has them where the
            system is differentiable
        :return: what the attacker sees
        """
        if self.differentiable:
            with gradients_to_input(self.model):
                return self._watch(x)
        seen = self._watch_without_gradients(x.detach())
        return Watch(seen.pressure.detach(), seen.alarm)

    def _look(self, x: Tensor) -> tuple[Tensor, Watch]:
        return self._answers(x), self._watch(x)

    @abstractmethod
    def _watch(self, x: Tensor) -> Watch:
        """What the attacker sees."""

    @torch.no_grad()
    def _watch_without_gradients(self, x: Tensor) -> Watch:
        return self._watch(x)

    def _answers(self, x: Tensor) -> Tensor:
        return picked_logits(self.model(x), None, len(x), unwrap(self.model))

    @abstractmethod
    def passes(self, x: Tensor) -> Tensor:
        """
        :param x: images in [0, 1]
        :return: whether the system lets the images pass, by its public methods, shape :math:`B`
        """

    @property
    def residue(self) -> ViyogResidue | None:
        """The detector whose quiet directions the attacker may know, if there is one."""
        return None


class ClassifierAlone(System):
    """A classifier that nobody watches over."""

    def _watch(self, x: Tensor) -> Watch:
        none = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        return Watch(none, none.bool())

    def passes(self, x: Tensor) -> Tensor:
        """See :meth:`System.passes`; everything passes."""
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
        self.detector = detector
        self.threshold = threshold
        self.spread = spread
        # these differentiate the model themselves, and would see their own gradients change
        self.differentiable = not isinstance(detector, GradientDetector)

    def _watch(self, x: Tensor) -> Watch:
        scores = self.detector.predict(x).to(x.device)
        pressure = (scores - self.threshold) / self.spread
        return Watch(pressure.to(x), scores > self.threshold)

    def _watch_without_gradients(self, x: Tensor) -> Watch:
        with torch.set_grad_enabled(isinstance(self.detector, GradientDetector)):
            return self._watch(x)

    def scores(self, x: Tensor) -> Tensor:
        """
        :param x: images in [0, 1]
        :return: scores by the detector's public method, shape :math:`B`
        """
        with torch.set_grad_enabled(isinstance(self.detector, GradientDetector)):
            scores: Tensor = self.detector.predict(x)
        return scores.detach().to(x.device)

    def passes(self, x: Tensor) -> Tensor:
        """See :meth:`System.passes`: no alarm."""
        return self.scores(x) <= self.threshold

    @property
    def residue(self) -> ViyogResidue | None:
        """See :attr:`System.residue`."""
        pipeline = getattr(self.detector, "pipeline", None)
        return residue_among([self.detector, *getattr(pipeline, "detectors", {}).values()])


def residue_among(detectors: Iterable[Detector]) -> ViyogResidue | None:
    """:return: the first :class:`ViyogResidue` among detectors, also one that another reads"""
    for detector in detectors:
        if isinstance(detector, ResidueView):
            return detector.residue
        if isinstance(detector, ViyogResidue):
            return detector
    return None


@contextmanager
def gradients_to_input(model: Module) -> Iterator[None]:
    """
    Where gradients are switched on, everything inside the block has them in respect to the input,
    and to nothing else.

    :param model: model whose parameters need none meanwhile
    """
    asked = torch.is_grad_enabled()
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in found:
            parameter.requires_grad_(False)
        if not asked:
            yield
            return
        with WithGradients():
            yield
    finally:
        for parameter in found:
            parameter.requires_grad_(True)
