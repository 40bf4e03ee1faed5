"""
The rule of a triage: which signals raise alarms, for which share of ID data, and what an alarm
means.
"""

from collections.abc import Iterable
from typing import Any, Literal

from pytorch_ood.api import RequiresFittingException
from torch import Tensor
from typing_extensions import Self

from ..detectors.intent import ViyogIntent
from ..detectors.residue import ViyogResidue
from ..looks.second_look import SecondLook
from .calibration import Calibration, budget_shares
from .confirmation import CONFIRM
from .noisy import INTENT, benign_scores, joined
from .verdict_giver import VerdictGiver

__all__ = ["AlarmRule"]


class AlarmRule(VerdictGiver):
    """
    What :class:`~pytorch_ood_viyog.triage.triage.Triage` is made of: settings, calibrated
    thresholds, and the verdicts that follow from both without a second look.
    """

    #: names of the detectors that raise alarms beside the router's
    gates: list[str]
    #: name of the detector that decides between OOD and ADV
    router: str
    #: name of the detector that raises the router's alarms
    alarm: str
    #: rate of false alarms on ID data, all signals together
    id_fpr: float
    #: share of the false alarms that the router's alarm may raise
    router_share: float
    #: how several gates raise alarms
    combine: Literal["fused", "any", "max"]
    #: share of ID samples with benign changes that may be called ADV
    noisy_fpr: float
    #: asks the model again, if anything does
    confirm: SecondLook | None
    #: tells attacks from benign changes, if anything does
    intent: ViyogIntent | None
    _calibration: Calibration | None

    @property
    def shares(self) -> dict[str, float]:
        """Signal -> share of the false alarms that it may raise."""
        shares = budget_shares(self.gates, self.alarm, self.router_share, self._fuses)
        if CONFIRM not in self.pipeline.detectors:
            return shares
        # gates and second look halve what the router's alarm leaves
        halves = {n: share if n == self.alarm else share / 2 for n, share in shares.items()}
        return halves | {CONFIRM: (1 - self.router_share) / 2}

    @property
    def rule(self) -> tuple[str, float | None, str | None]:
        """What decides between OOD, NOISY and ADV, see :meth:`Calibration.verdicts`."""
        router = self.pipeline[self.router]
        least_adv = router.least_adv if isinstance(router, ViyogResidue) else None
        return self.router, least_adv, None if self.intent is None else INTENT

    @property
    def _fuses(self) -> bool:
        return self.combine == "fused" and len(self.gates) > 1

    @property
    def calibration(self) -> Calibration:
        """
        Thresholds, and the ID calibration scores that they were set on.

        :raises RequiresFittingException: before fitting
        """
        if self._calibration is None:
            raise RequiresFittingException("Triage has no thresholds yet. Call fit() first.")
        return self._calibration

    def _fit_confirm(
        self, loader: Iterable[Any], calibration: Iterable[Any], progress: bool
    ) -> None:
        if self.confirm is None:
            return
        if self.confirm.choice is None:
            self.confirm.fit(loader, progress=progress)
        self.confirm.calibrate(calibration, progress=progress)

    def _calibrate(self, loader: Iterable[Any], progress: bool) -> Self:
        benign: list[Tensor] = []
        if self.intent is not None:
            loader = benign_scores(self.intent, loader, benign)
        table = self.pipeline.score(loader, progress=progress)
        labels = table.get("labels")
        known = slice(None) if labels is None else labels >= 0
        scores = {name: table[name][known].double() for name in self.pipeline.detectors}
        fused = self.gates if self._fuses else []
        calibration = Calibration.of(
            scores, fused, self.shares, self.id_fpr, standardised=self.combine == "max"
        )
        if self.intent is not None:
            calibration = calibration.with_intent(INTENT, joined(benign), self.noisy_fpr)
        self._calibration = calibration
        return self

    def _verdicts_of(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """Scores, verdicts, and the first answers where they are confirmed."""
        calibration, asked = self.calibration, self.confirm is not None
        found = self.pipeline.predict(x, logits=asked)
        first = found.pop("logits", None)
        scores = calibration.with_fused(found)
        return scores, calibration.verdicts(scores, *self.rule), first

    @property
    def _required(self) -> dict[str, float]:
        """Detector -> score that an alarm needs to mean a residue, or ADV."""
        router, least_adv, intent = self.rule
        limits = {router: least_adv}
        if intent is not None and self._calibration is not None:
            limits[intent] = self._calibration.least_intent
        return {name: limit for name, limit in limits.items() if limit is not None}

    def _rule_state(self) -> dict[str, Any]:
        return {
            "id_fpr": self.id_fpr,
            "router_share": self.router_share,
            "combine": self.combine,
            "noisy_fpr": self.noisy_fpr,
            "calibration": self.calibration.state_dict(),
            "confirm": None if self.confirm is None else self.confirm.state_dict(),
        }

    def _load_rule(self, state: dict[str, Any]) -> None:
        self.id_fpr, self.router_share = state["id_fpr"], state["router_share"]
        self.combine, self.noisy_fpr = state["combine"], state["noisy_fpr"]
        if self.confirm is not None:
            self.confirm.load_state_dict(state["confirm"])
        self._calibration = Calibration(**state["calibration"])

    def __repr__(self) -> str:
        lines = [f"Triage(id_fpr={self.id_fpr:g}, gates={self.gates}, router={self.router!r}"]
        for name, share in self.shares.items():
            budget = f"  {name}: {share * self.id_fpr:.2%} of ID may raise an alarm"
            if self.combine == "max":
                budget = f"  {name}: shares {self.id_fpr:.2%} of ID with the others"
            limits = {} if self._calibration is None else self._calibration.thresholds
            lines.append(f"{budget}, above {limits[name]:.4g}" if limits else budget)
        required = self._required
        router = required.get(self.router)
        if INTENT in required:
            lines.append(
                f"  an alarm means ADV with {INTENT} above {required[INTENT]:.4g}, which "
                f"{self.noisy_fpr:.2%} of noisy ID may exceed, else NOISY"
            )
        if router is not None:
            verdict = "ADV" if self.intent is None else "a residue"
            lines.append(
                f"  an alarm means {verdict} with {self.router} above {router:.4g}, else OOD"
            )
        return "\n".join([*lines, f"  fitted={self._calibration is not None}\n)"])
