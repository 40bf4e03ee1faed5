"""
What is behind verdicts, for people to read.
"""

from dataclasses import dataclass, field

from torch import Tensor

from .verdict import Verdict

__all__ = ["Explanation"]


@dataclass(frozen=True)
class Explanation:
    """What is behind the verdicts for a batch of :math:`B` samples."""

    #: values of :class:`Verdict`, shape :math:`B`
    verdicts: Tensor
    #: detector or signal -> scores of shape :math:`B`
    scores: dict[str, Tensor]
    #: detector or signal -> conformal p-values of shape :math:`B`: the share of ID calibration
    #: samples that score as high
    p_values: dict[str, Tensor]
    #: signal -> score above which it raises an alarm
    thresholds: dict[str, float]
    #: router -> score that an alarm needs to mean a residue, detector of intent -> score that it
    #: needs to mean ADV; empty where the router's own alarm decides
    required: dict[str, float] = field(default_factory=dict)
    #: whether the second look confirms the verdict ADV, shape :math:`B`; ``None`` without one
    confirmed: Tensor | None = None
    #: class that the model answers without the residue, -1 where it was not asked, shape :math:`B`
    second: Tensor | None = None

    @property
    def alarms(self) -> dict[str, Tensor]:
        """Signal -> whether it raised an alarm, shape :math:`B`."""
        return {name: self.scores[name] > limit for name, limit in self.thresholds.items()}

    def __str__(self) -> str:
        lines = []
        for i, verdict in enumerate(self.verdicts.tolist()):
            cells = "; ".join(self._cell(name, i) for name in self.scores)
            lines.append(f"{i:4d}  {Verdict(verdict).name:<5} {cells}{self._confirmation(i)}")
        return "\n".join(lines)

    def _confirmation(self, sample: int) -> str:
        if self.confirmed is None or self.second is None or int(self.second[sample]) < 0:
            return ""
        confirmed = "confirmed" if bool(self.confirmed[sample]) else "not confirmed"
        return f"; {confirmed}, second answer {int(self.second[sample])}"

    def _cell(self, name: str, sample: int) -> str:
        score = float(self.scores[name][sample])
        text = f"{name} {score:.4g}"
        limits = self.thresholds | self.required
        if name in limits:
            limit = limits[name]
            text += f" {'>' if score > limit else '<='} {limit:.4g}"
        return f"{text} (p={float(self.p_values[name][sample]):.3f})"
