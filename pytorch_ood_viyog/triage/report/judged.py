"""
What becomes of the samples of one class: verdicts and scores of all, and some to look at.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...detectors.way_check import Rows
from ...evaluation.page import KEPT, worst_first
from ...layer.batches import batches, in_batches
from ...layer.manners import same_random_state
from ..explanation import Explanation
from ..populations.verdict import ORDER, Verdict
from ..verdicts import Verdicts

__all__ = ["JudgedClass", "JudgedSample", "judged_class", "residue_at"]


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
        #: the samples to look at, worst mistakes first
        self.samples: list[JudgedSample] = []
        self._taken: list[tuple[Tensor, Tensor, Rows]] = []

    def take(self, x: Tensor, explanation: Explanation, readings: Rows) -> None:
        """
        :param x: batch of model inputs
        :param explanation: what is behind their verdicts
        :param readings: what tells the way they came
        """
        before = sum(len(verdicts) for verdicts, _, _ in self._taken)
        verdicts, odds = explanation.verdicts.cpu(), explanation.posterior.double().cpu()
        self._taken.append((verdicts, odds.clamp(1e-12, 1 - 1e-12).logit(), readings))
        right = verdicts == int(self.truth)
        looked_at = ~right | (right.cumsum(dim=0) <= KEPT)
        own = [
            JudgedSample(self.truth, before + i, x[i].detach(), explanation.sample(i))
            for i in looked_at.nonzero().flatten().tolist()
        ]
        kept: list[JudgedSample] = worst_first(self.samples + own)
        # copies, so that the batch can go
        self.samples = [replace(s, x=s.x.cpu().clone()) if s.number >= before else s for s in kept]

    @property
    def verdicts(self) -> Tensor:
        """Verdicts of all samples, int64."""
        return torch.cat([torch.zeros(0).long(), *(verdicts for verdicts, _, _ in self._taken)])

    @property
    def scores(self) -> dict[str, Tensor]:
        """Log-odds of each verdict, of all samples."""
        odds = torch.cat([torch.zeros(0, 4).double(), *(odds for _, odds, _ in self._taken)])
        return {f"{v.name} odds": own for v, own in zip(ORDER, odds.unbind(1), strict=True)}

    @property
    def readings(self) -> Rows:
        """What tells the way of all samples, one a row."""
        return np.concatenate([readings for _, _, readings in self._taken])


def judged_class(triage: Verdicts, truth: Verdict, inputs: Any, progress: bool) -> JudgedClass:
    """:return: what becomes of inputs, a tensor or a loader, of which the truth is known"""
    found = JudgedClass(truth)
    with same_random_state(triage.model):
        for x, _ in batches(in_batches(inputs), "triage", progress):
            found.take(x, triage.explain(x), triage.drift.read(x))
    device = triage.answers.device
    detectors = triage.pipeline.detectors.values()
    found.samples = [
        replace(sample, residue=residue_at(detectors, sample.x.to(device)))
        for sample in found.samples
    ]
    return found


def residue_at(detectors: Iterable[Any], x: Tensor) -> Tensor | None:
    """
    :param detectors: fitted detectors
    :param x: one model input, without the dimension of a batch
    :return: the residue that the first of them with a ``residue_map`` and a model sees at each
        place, as a fraction of the input's range, shape :math:`H' \\times W'`; ``None`` where none
        does, or the input has no two axes of space
    """
    for detector in detectors:
        if hasattr(detector, "residue_map") and detector.model is not None:
            found: Tensor = detector.residue_map(x[None])[0]
            return found.cpu() if found.dim() == 2 else None
    return None
