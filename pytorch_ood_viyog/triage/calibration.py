"""
What Triage learns from ID calibration scores: how gates are fused, and thresholds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .conformal import (
    alarm_thresholds,
    conformal_p_values,
    smallest_calibration_set,
    standardised_thresholds,
)
from .verdict import Verdict

__all__ = ["FUSED", "Calibration", "budget_shares", "fused_score"]

#: name of the signal that several gates give together
FUSED = "gates"

# share of the calibration samples that only place the signals on a common scale
_REFERENCE_SHARE = 0.2


def budget_shares(
    gates: Sequence[str], alarm: str, alarm_share: float, fused: bool
) -> dict[str, float]:
    """
    :param gates: names of the gates
    :param alarm: name of the detector that raises the router's alarms
    :param alarm_share: share of the false alarms that it may raise
    :param fused: whether the gates are fused to one signal
    :return: signal -> share of the false alarms that it may raise
    """
    signals = [FUSED] if fused else gates
    return dict.fromkeys(signals, (1 - alarm_share) / len(signals)) | {alarm: alarm_share}


def fused_score(reference: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> Tensor:
    """
    Several detectors' scores as one, by Stouffer's method: each score becomes the normal quantile
    of its rank among :math:`n` ID reference scores, and these are summed.

    .. math::
        \\frac{1}{\\sqrt{k}} \\sum_{j=1}^{k} \\Phi^{-1}(1 - q_j), \\qquad
        q_j = \\frac{\\#\\{i : s_{ij} \\geq s_j\\} + 1/2}{n + 1}

    An input that is a little unusual for all detectors counts as much as one that is very unusual
    for one of them.

    :param reference: detector -> ID reference scores in ascending order, shape :math:`n`
    :param scores: detector -> scores of shape :math:`B`
    :return: fused scores of shape :math:`B`, larger for the anomaly looked for, float64
    """
    quantiles = []
    for name, known in reference.items():
        p_values = conformal_p_values(known, scores[name])  # of the form (1 + count) / (n + 1)
        quantiles.append(-torch.special.ndtri(p_values - 0.5 / (len(known) + 1)))
    return torch.stack(quantiles).sum(dim=0) / math.sqrt(len(quantiles))


@dataclass(frozen=True)
class Calibration:
    """Fitted state of a :class:`~pytorch_ood_viyog.triage.triage.Triage`."""

    #: signal -> score above which it raises an alarm
    thresholds: dict[str, float]
    #: signal or detector -> its ID calibration scores in ascending order
    scores: dict[str, Tensor]
    #: fused detector -> its ID reference scores in ascending order; empty if nothing is fused
    reference: dict[str, Tensor]
    #: the intent score that ADV needs; ``None`` where nothing judges intent
    least_intent: float | None = None

    @classmethod
    def of(
        cls,
        scores: Mapping[str, Tensor],
        fused: Sequence[str],
        shares: Mapping[str, float],
        id_fpr: float,
        standardised: bool = False,
    ) -> "Calibration":
        """
        :param scores: detector -> scores of the ID calibration samples, shape :math:`n`
        :param fused: detectors to fuse to one signal; the others are signals of their own
        :param shares: signal -> share of the false alarms
        :param id_fpr: rate of false alarms of all signals together
        :param standardised: one threshold for the largest of the standardised signals, whatever
            their shares
        :return: the calibration
        :raises ValueError: if there are too few samples, or a score is NaN
        """
        count = len(next(iter(scores.values())))
        scaled = bool(fused) or standardised
        placed = round(_REFERENCE_SHARE * count) if scaled else 0
        needed = smallest_calibration_set(id_fpr, 1 if standardised else len(shares))
        if count - placed < needed:
            needed = math.ceil(needed / (1 - _REFERENCE_SHARE)) + 1 if scaled else needed
            raise ValueError(
                f"Calibration needs {needed} or more ID samples for id_fpr={id_fpr:g} and the "
                f"signals {list(shares)}, got {count}."
            )
        # a loader may be sorted by class, both parts must be alike
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        reference = {name: scores[name][order[:placed]].sort().values for name in fused}
        rest = {name: values[order[placed:]] for name, values in scores.items()}
        if fused:
            rest[FUSED] = fused_score(reference, rest)
        signals = {name: rest[name] for name in shares}
        if standardised:
            scale = {name: scores[name][order[:placed]] for name in shares}
            thresholds = standardised_thresholds(scale, signals, id_fpr)
        else:
            thresholds = alarm_thresholds(signals, id_fpr, shares)
        return cls(thresholds, {n: v.sort().values for n, v in rest.items()}, reference)

    def with_fused(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        :param scores: detector -> scores of shape :math:`B`
        :return: detector or signal -> scores of shape :math:`B`, float64 on the CPU
        """
        table = {name: values.cpu().double() for name, values in scores.items()}
        if self.reference:
            table[FUSED] = fused_score(self.reference, table)
        return table

    def verdicts(
        self,
        scores: Mapping[str, Tensor],
        router: str,
        least_adv: float | None = None,
        intent: str | None = None,
    ) -> Tensor:
        """
        :param scores: what :meth:`with_fused` gave
        :param router: detector that decides between OOD and ADV
        :param least_adv: an alarm means a residue where the router's score is above this; without
            it, where the router itself raised it
        :param intent: detector that tells attacks from benign changes: an alarm means ADV where
            its score is above :attr:`least_intent`, and NOISY where there is a residue else;
            without it, every residue means ADV
        :return: values of :class:`Verdict`, shape :math:`B`
        """
        alarms = {name: scores[name] > limit for name, limit in self.thresholds.items()}
        alarm = torch.stack(list(alarms.values())).any(dim=0)
        verdicts = torch.where(alarm, int(Verdict.OOD), int(Verdict.ID))
        residue = alarms[router] if least_adv is None else alarm & (scores[router] > least_adv)
        if intent is None or self.least_intent is None:
            return torch.where(residue, int(Verdict.ADV), verdicts)
        verdicts = torch.where(residue, int(Verdict.NOISY), verdicts)
        return torch.where(
            alarm & (scores[intent] > self.least_intent), int(Verdict.ADV), verdicts
        )

    def with_intent(self, name: str, benign: Tensor, noisy_fpr: float) -> "Calibration":
        """
        :param name: detector that tells attacks from benign changes
        :param benign: its scores of ID calibration samples after benign changes, ascending
        :param noisy_fpr: share of such samples that may be called ADV
        :return: this calibration with the conformal threshold of the intent; its p-values are
            among these scores
        :raises ValueError: if there are too few samples, or a score is NaN
        """
        limit = alarm_thresholds({name: benign}, noisy_fpr, {name: 1.0})[name]
        return replace(self, scores=self.scores | {name: benign}, least_intent=limit)

    def p_values(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        :param scores: what :meth:`with_fused` gave
        :return: detector or signal -> conformal p-values of shape :math:`B`
        """
        return {name: conformal_p_values(self.scores[name], v) for name, v in scores.items()}

    def state_dict(self) -> dict[str, Any]:
        """:return: the fields as plain dictionaries"""
        return {
            "thresholds": dict(self.thresholds),
            "scores": dict(self.scores),
            "reference": dict(self.reference),
            "least_intent": self.least_intent,
        }
