"""
What is behind verdicts, for people to read.
"""

from dataclasses import dataclass, field

import torch
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
    #: class that the model answers, shape :math:`B`; ``None`` without a second look
    first: Tensor | None = None

    @property
    def least_p(self) -> Tensor:
        """
        The smallest p-value of the signals that raise alarms, shape :math:`B`; 1 where no signal
        has any.
        """
        found = [self.p_values[name] for name in self.thresholds if name in self.p_values]
        if not found:
            return torch.ones(len(self.verdicts), dtype=torch.float64)
        return torch.stack(found).amin(dim=0)

    def sample(self, i: int) -> "Explanation":
        """
        :param i: index of a sample in the batch
        :return: what is behind its verdict alone, on the CPU
        """

        def own(values: Tensor) -> Tensor:
            return values[i : i + 1].cpu().clone()

        def maybe(values: Tensor | None) -> Tensor | None:
            return None if values is None else own(values)

        return Explanation(
            own(self.verdicts),
            {name: own(values) for name, values in self.scores.items()},
            {name: own(values) for name, values in self.p_values.items()},
            self.thresholds,
            self.required,
            maybe(self.confirmed),
            maybe(self.second),
            maybe(self.first),
        )

    @property
    def alarms(self) -> dict[str, Tensor]:
        """Signal -> whether it raised an alarm, shape :math:`B`."""
        return {name: self.scores[name] > limit for name, limit in self.thresholds.items()}

    def __str__(self) -> str:
        lines = []
        for i, verdict in enumerate(self.verdicts.tolist()):
            cells = "; ".join(self._cell(name, i) for name in self.scores)
            asked = self.second_answer(i)
            lines.append(f"{i:4d}  {Verdict(verdict).name:<5} {cells}{asked and f'; {asked}'}")
        return "\n".join(lines)

    def second_answer(self, i: int) -> str:
        """
        :param i: index of a sample in the batch
        :return: what the model answered when it was asked again, empty where it was not
        """
        if self.confirmed is None or self.second is None or int(self.second[i]) < 0:
            return ""
        confirmed = "confirmed" if bool(self.confirmed[i]) else "not confirmed"
        first = "" if self.first is None else f", at first {int(self.first[i])}"
        return f"{confirmed}, second answer {int(self.second[i])}{first}"

    def _cell(self, name: str, sample: int) -> str:
        score = float(self.scores[name][sample])
        text = f"{name} {score:.4g}"
        limits = self.thresholds | self.required
        if name in limits:
            limit = limits[name]
            text += f" {'>' if score > limit else '<='} {limit:.4g}"
        if name in self.p_values:
            text += f" (p={float(self.p_values[name][sample]):.3f})"
        return text
