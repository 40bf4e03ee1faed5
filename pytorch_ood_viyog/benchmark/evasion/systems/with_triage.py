"""
A Triage as what is attacked.
"""

import torch
from torch import Tensor

from ....detectors.residue import ViyogResidue
from ....triage.calibration import FUSED
from ....triage.triage import Triage
from ....triage.verdict import Verdict
from .system import System, Watch, residue_among

__all__ = ["TriageSystem"]


class TriageSystem(System):
    """
    A fitted :class:`~pytorch_ood_viyog.triage.triage.Triage`, by its own thresholds: what it calls
    ID or NOISY passes. A second look that raises no alarms of its own changes nothing: it is
    asked where there is an alarm already.
    """

    def __init__(self, triage: Triage):
        """:param triage: fitted triage"""
        super().__init__(triage.pipeline.model)
        self.triage = triage

    def _look(self, x: Tensor) -> tuple[Tensor, Watch]:
        found = self.triage.pipeline.predict(x, logits=True)
        return found.pop("logits"), self._seen(x, found)

    def _watch(self, x: Tensor) -> Watch:
        return self._seen(x, self.triage.pipeline.predict(x))

    def _seen(self, x: Tensor, found: dict[str, Tensor]) -> Watch:
        scores = self.triage.calibration.with_fused(found)
        pressure, alarm = self._alarms({n: self._margin(n, s) for n, s in scores.items()})
        return Watch(pressure.to(x), alarm.to(x.device))

    def _alarms(self, margins: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        calibration = self.triage.calibration
        if FUSED in margins:  # ranks have no gradient: that of the mean of the fused scores
            mean = torch.stack([margins[name] for name in calibration.reference]).mean(dim=0)
            # not detach(), which keeps gradients here
            margins[FUSED] = margins[FUSED] + mean - mean.new_tensor(mean.tolist())
        alarms = torch.stack([margins[name] for name in calibration.thresholds])
        # the largest, smoothed: whoever heeds one signal only is caught by the next
        pressure, alarm = alarms.logsumexp(dim=0), (alarms > 0).any(dim=0)
        router, least_adv, intent = self.triage.rule
        if intent is not None and least_adv is not None:  # an alarm may also mean NOISY
            unlike_noise = torch.maximum(-margins[router], margins[intent])
            pressure = torch.minimum(pressure, unlike_noise)
            alarm = alarm & (unlike_noise > 0)
        return pressure, alarm

    def _margin(self, name: str, scores: Tensor) -> Tensor:
        """Scores beyond what an alarm or a verdict needs, in standard deviations on ID."""
        router, least_adv, intent = self.triage.rule
        calibration = self.triage.calibration
        known = calibration.scores[name]
        limit = calibration.thresholds.get(name, float(known.mean()))
        if name == router and least_adv is not None:
            limit = least_adv
        if name == intent and calibration.least_intent is not None:
            limit = calibration.least_intent
        return (scores - limit) / known.std().clamp_min(1e-12)

    @torch.no_grad()
    def passes(self, x: Tensor) -> Tensor:
        """See :meth:`System.passes`: the verdict is ID or NOISY."""
        verdicts = self.triage.predict(x)
        passes = (verdicts == int(Verdict.ID)) | (verdicts == int(Verdict.NOISY))
        return passes.to(x.device)

    @property
    def residue(self) -> ViyogResidue | None:
        """See :attr:`System.residue`."""
        return residue_among(self.triage.pipeline.detectors.values())
