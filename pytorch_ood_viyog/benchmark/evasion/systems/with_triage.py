"""
A Triage as what is attacked.
"""

import torch
from torch import Tensor

from ....detectors.residue import ViyogResidue
from ....triage.populations.verdict import ORDER, Verdict
from ....triage.rule.thresholds import ALARMS
from ....triage.triage import Triage
from .system import System, Watch

__all__ = ["TriageSystem"]


class TriageSystem(System):
    """
    A fitted :class:`~pytorch_ood_viyog.triage.triage.Triage`, by its own thresholds: what it calls
    ID or NOISY passes.
    """

    def __init__(self, triage: Triage):
        """:param triage: fitted triage"""
        super().__init__(triage.model)
        self.triage = triage

    def _look(self, x: Tensor) -> tuple[Tensor, Watch]:
        reading = self.triage.read(x)
        return reading.logits, self._seen(x, reading.z)

    def _watch(self, x: Tensor) -> Watch:
        return self._seen(x, self.triage.read(x).z)

    def _seen(self, x: Tensor, z: Tensor) -> Watch:
        thresholds = self.triage.fitted.thresholds
        beyond = [
            z[:, ORDER.index(verdict)] - z[:, ORDER.index(Verdict.ID)] - float(limit)
            for verdict, limit in zip(ALARMS, thresholds.alarms, strict=True)
            if verdict != Verdict.NOISY  # passes
        ]
        # the larger one, smoothed: whoever heeds one only is caught by the other
        pressure = torch.stack(beyond).logsumexp(dim=0)
        return Watch(pressure.to(x), ~self._passing(thresholds.verdicts(z)).to(x.device))

    @torch.no_grad()
    def passes(self, x: Tensor) -> Tensor:
        """See :meth:`System.passes`: the verdict is ID or NOISY."""
        return self._passing(self.triage.predict(x)).to(x.device)

    @staticmethod
    def _passing(verdicts: Tensor) -> Tensor:
        return (verdicts == int(Verdict.ID)) | (verdicts == int(Verdict.NOISY))

    @property
    def residue(self) -> ViyogResidue | None:
        """See :attr:`System.residue`."""
        return self.triage.residue
