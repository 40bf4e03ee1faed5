"""
What becomes of the samples of one class: verdicts and scores of all, and some to look at.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...detectors.way_check import Rows
from ..explanation import Explanation
from ..populations.verdict import ORDER, Verdict

__all__ = ["JudgedClass", "JudgedSample"]

# samples of a class to look at: so many mistakes, and as many right verdicts
_KEPT = 4


@dataclass(frozen=True)
class JudgedSample:
    """A sample and what is behind its verdict."""

    #: what it is
    truth: Verdict
    #: its place among the samples of its class
    number: int
    #: the model input, shape :math:`C \\times *S`, on the CPU
    x: Tensor
    #: what is behind the verdict, of this sample alone
    explanation: Explanation
    #: residue at each place as a fraction of the input's range, shape :math:`H' \\times W'`
    residue: Tensor | None = None
    #: where it comes from, if there are several sets of its class
    source: str = ""

    @property
    def verdict(self) -> Verdict:
        """What it was taken for."""
        return Verdict(int(self.explanation.verdicts[0]))

    @property
    def right(self) -> bool:
        """Whether that is what it is."""
        return self.verdict == self.truth

    @property
    def severity(self) -> float:
        """
        How bad a mistake is: of ID and NOISY samples those that seemed the most unusual, of OOD
        and ADV samples those that seemed the most ordinary, by the least p-value of the signals.
        """
        p_value = float(self.explanation.least_p[0])
        return p_value if self.truth in (Verdict.OOD, Verdict.ADV) else -p_value


class JudgedClass:
    """
    Takes the samples of a class batch by batch. Of the samples themselves it keeps the worst
    mistakes and the first that were judged right, four each; of all, verdicts and scores.
    """

    def __init__(self, truth: Verdict):
        """
        :param truth: the class
        """
        self.truth = truth
        self._verdicts: list[Tensor] = []
        self._scores: list[dict[str, Tensor]] = []
        self._wrong: list[JudgedSample] = []
        self._right: list[JudgedSample] = []
        self._readings: list[Rows] = []

    def take(self, x: Tensor, explanation: Explanation, readings: Rows) -> None:
        """
        :param x: batch of model inputs
        :param explanation: what is behind their verdicts
        :param readings: what tells the way they came
        """
        self._readings.append(readings)
        before = sum(map(len, self._verdicts))
        verdicts = explanation.verdicts.cpu()
        self._verdicts.append(verdicts)
        self._scores.append(
            {
                f"{v.name} odds": (p.double().clamp(1e-12, 1 - 1e-12)).logit().cpu()
                for v, p in zip(ORDER, explanation.posterior.unbind(dim=1), strict=True)
            }
        )
        right = verdicts == int(self.truth)
        wrong = (~right).nonzero().flatten().tolist()
        places = right.nonzero().flatten().tolist()[: _KEPT - len(self._right)]
        self._right += [self._sample(before, i, x, explanation) for i in places]
        found = self._wrong + [self._sample(before, i, x, explanation) for i in wrong]
        self._wrong = sorted(found, key=lambda sample: -sample.severity)[:_KEPT]

    def _sample(self, before: int, i: int, x: Tensor, explanation: Explanation) -> JudgedSample:
        # a copy, so that the batch can go
        image = x[i].detach().cpu().clone()
        return JudgedSample(self.truth, before + i, image, explanation.sample(i))

    @property
    def verdicts(self) -> Tensor:
        """Verdicts of all samples, int64."""
        return torch.cat(self._verdicts) if self._verdicts else torch.empty(0, dtype=torch.int64)

    @property
    def scores(self) -> dict[str, Tensor]:
        """Signal -> scores of all samples."""
        names = self._scores[0] if self._scores else {}
        return {name: torch.cat([batch[name] for batch in self._scores]) for name in names}

    @property
    def readings(self) -> Rows:
        """What tells the way of all samples, one a row."""
        return np.concatenate(self._readings) if self._readings else np.empty((0, 0))

    @property
    def samples(self) -> list[JudgedSample]:
        """The samples to look at, worst mistakes first."""
        return self._wrong + self._right
