"""
The rule of a Triage as a module: scores to verdicts and p-values, by operations that exporters
know.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Module

from ..triage.calibration import FUSED, Calibration
from ..triage.conformal import conformal_p_values
from ..triage.verdict import Verdict

__all__ = ["VerdictRule"]


class VerdictRule(Module):
    """
    Gives what :class:`~pytorch_ood_viyog.triage.calibration.Calibration` gives, with one
    difference: a score that is NaN raises an alarm, since nobody refuses the input beforehand.
    """

    def __init__(
        self,
        calibration: Calibration,
        router: str,
        least_adv: float | None = None,
        intent: str | None = None,
    ):
        """
        :param calibration: thresholds and ID calibration scores
        :param router: detector that decides between OOD and ADV
        :param least_adv: an alarm means a residue where the router's score is above this; without
            it, where the router itself raised it
        :param intent: detector that tells ADV from NOISY; without it, every residue means ADV
        """
        super().__init__()
        self.router, self.alarms = router, list(calibration.thresholds)
        self.intent = intent if calibration.least_intent is not None else None
        required = calibration.thresholds[router] if least_adv is None else least_adv
        # float64 buffers: exporters round numbers in the code to float32
        limits = torch.tensor([*calibration.thresholds.values()], dtype=torch.float64)
        self.register_buffer("limits", limits)
        self.register_buffer("required", torch.tensor(required, dtype=torch.float64))
        least_intent = torch.tensor(calibration.least_intent or 0.0, dtype=torch.float64)
        self.register_buffer("least_intent", least_intent)
        self.register_buffer("root", torch.tensor(len(calibration.reference)).double().sqrt())
        self.signals, self.fused = list(calibration.scores), list(calibration.reference)
        for number, scores in enumerate(calibration.scores.values()):
            self.register_buffer(f"known_{number}", scores.cpu().double())
        for number, scores in enumerate(calibration.reference.values()):
            self.register_buffer(f"reference_{number}", scores.cpu().double())
            self.register_buffer(f"quantile_{number}", _quantiles(len(scores)))

    def forward(
        self, scores: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """
        :param scores: detector -> scores of shape :math:`B`
        :return: verdicts of shape :math:`B`, int64; detector or signal -> scores, float64, and
            the same for p-values
        """
        known = {name: values.double() for name, values in scores.items()}
        if self.fused:
            known[FUSED] = self._fused(known)
        p_values = {}
        for number, name in enumerate(self.signals):
            calibration = self.get_buffer(f"known_{number}")
            above = _count_above(calibration, known[name])
            p_values[name] = (1 + above).double() / (len(calibration) + 1)
        return self._verdicts(known), known, p_values

    def _fused(self, scores: Mapping[str, Tensor]) -> Tensor:
        total: Tensor | None = None
        for number, name in enumerate(self.fused):
            above = _count_above(self.get_buffer(f"reference_{number}"), scores[name])
            quantile = self.get_buffer(f"quantile_{number}")[above]
            total = quantile if total is None else total + quantile
        assert total is not None
        return total / self.get_buffer("root")

    def _verdicts(self, scores: Mapping[str, Tensor]) -> Tensor:
        signals = torch.stack([scores[name] for name in self.alarms])
        alarm = (~(signals <= self.get_buffer("limits").unsqueeze(1))).any(dim=0)
        adv = residue = alarm & (scores[self.router] > self.get_buffer("required"))
        verdicts = torch.where(alarm, int(Verdict.OOD), int(Verdict.ID))
        if self.intent is not None:
            verdicts = torch.where(residue, int(Verdict.NOISY), verdicts)
            adv = alarm & (scores[self.intent] > self.get_buffer("least_intent"))
        return torch.where(adv, int(Verdict.ADV), verdicts)


def _count_above(calibration: Tensor, scores: Tensor) -> Tensor:
    """Of the calibration scores, those as large; exporters know no binary search."""
    return (calibration >= scores.unsqueeze(1)).sum(dim=1)


def _quantiles(count: int) -> Tensor:
    """Normal quantile of a score by the number of ``count`` reference scores that are as large."""
    reference = torch.arange(count, dtype=torch.float64)
    ranks = torch.arange(count, -1, -1, dtype=torch.float64) - 0.5  # one for each number above
    p_values = conformal_p_values(reference, ranks)
    quantiles: Tensor = torch.special.ndtri(p_values - 0.5 / (count + 1))
    return -quantiles
