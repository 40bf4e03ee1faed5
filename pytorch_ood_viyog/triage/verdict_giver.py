"""
The base of whatever gives verdicts: detectors in one forward pass, reports, state.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..detectors.intent import ViyogIntent
from ..detectors.residue import ViyogResidue
from ..layer.batches import batches, in_batches
from ..layer.manners import same_random_state
from ..looks.second_look import SecondLook
from ..pipeline.saving import detector_state, load_detector_state
from ..pipeline.shared_forward import SharedForward
from .explanation import Explanation
from .report import JudgedClass, JudgedSample, TriageReport, residue_at
from .verdict import Verdict

__all__ = ["VerdictGiver"]


class VerdictGiver(ABC):
    """
    Detectors in one :class:`~pytorch_ood_viyog.pipeline.shared_forward.SharedForward`, and a rule
    on top.
    """

    #: rate of false alarms on ID data, ``None`` where none is promised
    id_fpr: float | None = None

    def __init__(self, model: Module, detectors: Mapping[str, Detector], **shared: Any):
        """
        :param model: model that all detectors judge
        :param detectors: detectors by name
        :param shared: further arguments of :class:`SharedForward`, such as ``logits`` or ``head``
        """
        self.pipeline = SharedForward(model, detectors, **shared)

    @abstractmethod
    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: verdicts of shape :math:`B`, the values of :class:`Verdict` as int64
        :raises RequiresFittingException: if this or a detector is not fitted
        """

    @abstractmethod
    def explain(self, x: Tensor) -> Explanation:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: verdicts, and what is behind them
        :raises RequiresFittingException: if this or a detector is not fitted
        """

    @abstractmethod
    def _rule_state(self) -> dict[str, Any]:
        """State of the rule, as tensors and numbers."""

    @abstractmethod
    def _load_rule(self, state: dict[str, Any]) -> None:
        """Take the state of the rule."""

    def report(
        self,
        id: Tensor | Iterable[Any],
        ood: Tensor | Iterable[Any],
        adv: Tensor | Iterable[Any],
        *,
        noisy: Tensor | Iterable[Any] | None = None,
        progress: bool = True,
    ) -> TriageReport:
        """
        Compare verdicts with the truth.

        :param id: ID inputs, as tensor or loader
        :param ood: OOD inputs
        :param adv: adversarial inputs; count only attacks that fool the model
        :param noisy: ID inputs with benign changes, if they are to be judged
        :param progress: show a progress bar where a pass takes more than a second
        :return: confusion table and what follows from it, with some of the samples; its ``save``
            writes a page
        :raises ValueError: if a class is empty
        """
        given = {Verdict.ID: id, Verdict.OOD: ood, Verdict.ADV: adv}
        given |= {} if noisy is None else {Verdict.NOISY: noisy}
        classes = [self._judged(truth, inputs, progress) for truth, inputs in given.items()]
        seeds = {
            name: detector.seed
            for name, detector in self.pipeline.detectors.items()
            if isinstance(detector, (ViyogResidue, ViyogIntent, SecondLook))
        }
        samples = [self._with_residue(sample) for each in classes for sample in each.samples]
        return TriageReport.of_classes(classes, samples, self.id_fpr, repr(self), seeds)

    def _judged(
        self, truth: Verdict, inputs: Tensor | Iterable[Any], progress: bool
    ) -> JudgedClass:
        found = JudgedClass(truth)
        with same_random_state(self.pipeline.model):
            for x, _ in batches(in_batches(inputs), "triage", progress):
                found.take(x, self.explain(x))
        return found

    def _with_residue(self, sample: JudgedSample) -> JudgedSample:
        device = next((p.device for p in self.pipeline.model.parameters()), sample.x.device)
        found = residue_at(self.pipeline.detectors.values(), sample.x.to(device))
        return replace(sample, residue=found)

    def _fit_detectors(self, loader: Iterable[Any], names: list[str], progress: bool) -> None:
        if names:
            self.pipeline.fit(loader, names=names, progress=progress)

    def state_dict(self) -> dict[str, Any]:
        """
        :return: settings, thresholds and the detectors' fitted state as plain tensors and
            numbers, which ``torch.load(..., weights_only=True)`` reads; the model is left out
        :raises RequiresFittingException: before fitting
        :raises TypeError: if a detector keeps its state in other objects
        """
        rule = self._rule_state()
        detectors = self.pipeline.detectors.items()
        return {
            "class": type(self).__name__,
            "detectors": {name: detector_state(name, detector) for name, detector in detectors},
            "rule": rule,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """
        :param state: what ``state_dict`` gave, of an object built alike
        :return: this object, fitted as the other one was
        :raises ValueError: if it was of another class, or of other detectors
        """
        built = (type(self).__name__, sorted(self.pipeline.detectors))
        stored = (state.get("class"), sorted(state.get("detectors", {})))
        if built != stored:
            raise ValueError(f"state must belong to {built}, got one of {stored}.")
        for name, detector in self.pipeline.detectors.items():
            load_detector_state(detector, state["detectors"][name])
        self._load_rule(state["rule"])
        return self
