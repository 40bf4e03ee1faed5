"""
Triage: a verdict per sample, ID, OOD, ADV or NOISY, with a bounded rate of false alarms.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pytorch_ood.api import Detector
from pytorch_ood.detector import EnergyBased
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..detectors.base import FirstLayerDetector
from ..detectors.intent import ViyogIntent
from ..detectors.residue import ViyogResidue
from ..detectors.residue_alarm import ResidueAlarm
from ..fitting.held_out import HeldOut
from ..layer.batches import first_inputs
from ..layer.checks import check_number
from ..looks.second_look import SecondLook
from .alarm_rule import AlarmRule
from .calibration import FUSED
from .confirmation import CONFIRM, asked_again
from .explanation import Explanation
from .fused import Fused
from .noisy import INTENT, find_intent

__all__ = ["Triage"]

# enough for thresholds at a few percent, and little memory
_MOST_HELD_OUT = 2000


class Triage(AlarmRule):
    """
    Turns detector scores into verdicts: answer (ID), abstain (OOD), reject and alert (ADV), or
    answer with care and mend the camera (NOISY).

    An alarm is raised where the score of the *gate* or the *router's alarm* is unusual for ID
    data, above a threshold of its own. The router needs an alarm too, because gates on logits see
    few attacks: these are made to look confident. The router then decides between ADV and OOD:

    - A :class:`ViyogResidue` raises its alarms by :class:`ResidueAlarm`, its contrast of ID and
      ADV. The verdict is ADV where its score is above
      :attr:`~pytorch_ood_viyog.detectors.residue.ViyogResidue.least_adv`, which nearly all ID
      samples with a simulated perturbation exceed, whoever raised the alarm; OOD otherwise.
    - With ``intent``, a :class:`ViyogIntent` beside it reads whether a residue is shaped as an
      attack's: the verdict is ADV where its score is above a threshold of its own. Of the others,
      those above ``least_adv`` are NOISY, degraded without anybody meaning harm. It takes time to
      fit and costs recall, most of all without gradients, see :class:`ViyogIntent`.
    - Any other router raises alarms by its score. Those mean ADV, all others OOD.

    With ``confirm``, the model is asked again about what raised an alarm: the verdict ADV comes
    with ``confirmed`` and with the second answer, and an alarm taken for OOD for which residue and
    second look together speak for an attack means ADV too.

    Several gates are fused to one score by default, see
    :func:`~pytorch_ood_viyog.triage.calibration.fused_score`. Gates that look at different
    representations complement each other most.

    **Guarantee.** The thresholds are conformal: with :math:`n` ID calibration samples, a new ID
    sample raises a false alarm with probability at most

    .. math:: \\lfloor id\\_fpr \\cdot (n + 1) \\rfloor / (n + 1) \\leq id\\_fpr

    for gate and router together, whatever the detectors, see
    :func:`~pytorch_ood_viyog.triage.conformal.alarm_thresholds` for the rate given one calibration
    set. It holds if new ID samples and calibration samples are exchangeable. It **breaks** if the
    model was trained on the calibration images (it is more confident on them than on new ones,
    and the false alarms exceed the rate), if a detector was fitted on them, or if the ID data
    drift. Where gates are fused, :math:`n` is 80 % of the calibration samples; the others place
    the gates on a common scale. Nothing is promised about how many OOD or ADV samples are found.

    **Second guarantee.** The threshold of ``intent`` is conformal too, from the ID calibration
    samples after benign changes, a random one of
    :data:`~pytorch_ood_viyog.residue.intent.simulation.SIMULATED` each: a new ID sample with such
    a change is called ADV with probability at most ``noisy_fpr``, on the mean over these kinds of
    changes. It says nothing of other kinds, nor of a single kind, and with ``confirm`` a second
    look may call more of them ADV.

    .. rubric:: Examples

    .. code-block:: python

        triage = Triage(EnergyBased(None), ViyogResidue(model), id_fpr=0.05)
        triage.fit(train_loader, calibration_loader)
        verdicts = triage.predict(images)
        print(triage.explain(images))
    """

    def __init__(
        self,
        gate: Detector | Mapping[str, Detector] | None,
        router: FirstLayerDetector | SecondLook | Fused,
        *,
        model: Module | None = None,
        id_fpr: float = 0.05,
        router_share: float = 0.5,
        combine: Literal["fused", "any", "max"] = "fused",
        held_out: float = 0.2,
        confirm: SecondLook | None = None,
        confirm_when: Literal["alarm", "always"] = "alarm",
        intent: ViyogIntent | bool = False,
        noisy_fpr: float = 0.05,
        **shared: Any,
    ):
        """
        :param gate: one detector, or several by name; ``None`` for :class:`EnergyBased`
        :param router: tells ADV from OOD: a first-layer detector, :class:`SecondLook`, or
            :class:`Fused`, which is built with the model and runs a pass of its own
        :param model: model; default is the one of the router or of a gate
        :param id_fpr: rate of false alarms on ID data, all signals together
        :param router_share: share of the false alarms that the router's alarm may raise
        :param combine: several gates raise one alarm together (``"fused"``), or each its own, with
            equal shares of what the router leaves (``"any"``). ``"max"`` is the published
            two-signal gate: the largest of the standardised scores, the router's among them, has
            one threshold, and ``router_share`` does not count.
        :param held_out: share of the training data to calibrate on where no calibration data are
            given, at most 2,000 samples
        :param confirm: asks the model again about samples that raised an alarm, see
            :mod:`~pytorch_ood_viyog.triage.confirmation`
        :param confirm_when: ``"alarm"``: only those samples pay for a second answer.
            ``"always"``: the second answer is asked for every sample and raises alarms of its own,
            for half of the gates' share, which finds attacks that raise no other.
        :param intent: detector that tells attacks from benign changes; ``True``: one with the
            settings of a router that is a :class:`ViyogResidue`; ``False``: none, and then no
            verdict NOISY
        :param noisy_fpr: share of ID samples with benign changes that may be called ADV
        :param shared: further arguments of :class:`SharedForward`, such as ``logits`` or ``head``
        :raises TypeError: if gate or router are no detectors of these kinds
        :raises ValueError: if a number is out of range, or there is no model
        """
        kinds = "a first-layer detector, a SecondLook or a Fused"
        if not isinstance(router, (FirstLayerDetector, SecondLook, Fused)):
            raise TypeError(f"router must be {kinds}, got {type(router).__name__}.")
        gates = _named(EnergyBased(None) if gate is None else gate)
        if confirm is not None and not isinstance(confirm, SecondLook):
            raise TypeError(f"confirm must be a SecondLook, got {type(confirm).__name__}.")
        if confirm_when not in ("alarm", "always"):
            raise ValueError(f"confirm_when must be 'alarm' or 'always', got {confirm_when!r}.")
        self.confirm = confirm
        watching = {CONFIRM: confirm} if confirm is not None and confirm_when == "always" else {}
        self.id_fpr = check_number("id_fpr", id_fpr, low=1e-6, high=0.5)
        self.router_share = check_number("router_share", router_share, low=1e-3, high=0.999)
        self.held_out = check_number("held_out", held_out, low=1e-3, high=0.999)
        self.noisy_fpr = check_number("noisy_fpr", noisy_fpr, low=1e-6, high=0.5)
        if combine not in ("fused", "any", "max"):
            raise ValueError(f"combine must be 'fused', 'any' or 'max', got {combine!r}.")
        self.combine = combine
        alarm = ResidueAlarm(router) if isinstance(router, ViyogResidue) else router
        self.router, self.alarm = type(router).__name__, type(alarm).__name__
        if taken := {self.router, self.alarm, FUSED, CONFIRM, INTENT} & set(gates):
            raise ValueError(f"gate must not have the names of other signals, got {taken}.")
        self.gates = list(gates)
        found = _find_model(model, router, gates)
        self.intent = find_intent(intent, router, found)
        reading = {} if self.intent is None else {INTENT: self.intent}
        detectors = gates | watching | {self.alarm: alarm, self.router: router} | reading
        own = [name for name, each in detectors.items() if isinstance(each, Fused)]  # own pipeline
        shared["separate"] = [*shared.get("separate", ()), *own]
        super().__init__(found, detectors, **shared)
        if confirm is not None:
            residue = router if isinstance(router, ViyogResidue) else None
            confirm.attach(self.pipeline.model, shared.get("layer"), shared.get("logits"), residue)
        self._calibration = None

    def fit(
        self,
        train_loader: Iterable[Any],
        calibration_loader: Iterable[Any] | None = None,
        *,
        progress: bool = True,
    ) -> Self:
        """
        Fit those detectors that are not fitted yet, then set the thresholds. ID data only;
        samples with label :math:`< 0` are left out.

        :param train_loader: data to fit the detectors on, yields ``(x, y)``
        :param calibration_loader: data to set the thresholds on, neither seen by the model in
            training nor in ``train_loader``. Without it, a share of ``train_loader`` is held out
            (all of it, if every detector is fitted), which keeps the guarantee only if the model
            was not trained on it.
        :param progress: show progress bars where a pass takes more than a second
        :return: the fitted triage
        :raises ValueError: if there are too few calibration samples for ``id_fpr``
        """
        x = first_inputs(train_loader, self.pipeline.model)
        names = [name for name in self.pipeline.unfitted(x) if name != CONFIRM]
        if calibration_loader is not None:
            self._fit_detectors(train_loader, names, progress)
            self._fit_confirm(train_loader, calibration_loader, progress)
            return self._calibrate(calibration_loader, progress)
        warnings.warn(
            "Triage.fit without calibration_loader sets its thresholds on a part of train_loader. "
            "If the model was trained on these images, false alarms will exceed id_fpr.",
            stacklevel=2,
        )
        if not names:
            self._fit_confirm(train_loader, train_loader, progress)
            return self._calibrate(train_loader, progress)
        part = HeldOut(train_loader, self.held_out, _MOST_HELD_OUT)
        self._fit_detectors(part, names, progress)
        self._fit_confirm(train_loader, part.inputs, progress)
        return self._calibrate(part.inputs, progress)

    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: verdicts of shape :math:`B`, the values of :class:`Verdict` as int64
        :raises RequiresFittingException: if this or a detector is not fitted
        """
        return self.explain(x).verdicts if self.confirm is not None else self._verdicts_of(x)[1]

    def explain(self, x: Tensor) -> Explanation:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: verdicts, and the scores, thresholds and p-values behind them
        :raises RequiresFittingException: if this or a detector is not fitted
        """
        calibration = self.calibration
        scores, verdicts, first = self._verdicts_of(x)
        answers = None
        if self.confirm is not None and first is not None:
            known = calibration.scores[self.router]
            answers = asked_again(self.confirm, x, first, verdicts, known, scores[self.router])
            verdicts = answers.verdicts
        return Explanation(
            verdicts=verdicts,
            confirmed=None if answers is None else answers.confirmed,
            second=None if answers is None else answers.second,
            first=None if first is None else first.argmax(dim=1),
            scores=scores,
            p_values=calibration.p_values(scores),
            thresholds=dict(calibration.thresholds),
            required=self._required,
        )


def _named(gate: Detector | Mapping[str, Detector]) -> dict[str, Detector]:
    if isinstance(gate, Mapping) and gate:
        return dict(gate)
    if isinstance(gate, Detector):
        return {type(gate).__name__: gate}
    raise TypeError(f"gate must be a detector or detectors by name, got {gate!r}.")


def _find_model(model: Module | None, router: Detector, gates: Mapping[str, Detector]) -> Module:
    for candidate in (model, *(getattr(d, "model", None) for d in (router, *gates.values()))):
        if isinstance(candidate, Module):
            return candidate
    raise ValueError("There is no model: pass model=, or a router or gate that has one.")
