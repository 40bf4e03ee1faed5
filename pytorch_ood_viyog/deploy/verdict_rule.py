"""
The rule of a Triage as a module: evidence to verdicts, by operations that exporters know.
"""

import torch
from torch import Tensor
from torch.nn import Module

from ..triage.fitted_triage import FittedTriage
from ..triage.populations.verdict import ORDER, Verdict
from ..triage.rule.learning import SHAPES, Learnt
from ..triage.rule.rule import Rule, Shape
from ..triage.rule.thresholds import ALARMS, Thresholds
from .scorers import FittedState

__all__ = ["VerdictRule"]


class VerdictRule(Module):
    """
    Gives what a fitted triage gives, with one difference: where the evidence is not finite, the
    verdict is OOD, since nobody refuses the input beforehand.
    """

    def __init__(self, fitted: FittedTriage):
        """
        :param fitted: fitted rule and thresholds
        """
        super().__init__()
        rule = fitted.rule
        self.look = fitted.look if rule.full is not None else "never"
        self.names = (rule.full or rule.first).names
        self.first_names = rule.first.names
        self.shape = FittedState(vars(rule.shape))
        self.first = FittedState(_tensors(rule.first))
        self.full = FittedState(_tensors(rule.full or rule.first))
        self.thresholds = FittedState(vars(fitted.thresholds))
        self.register_buffer("open_above", rule.open_above.cpu().clone())

    def read(self, features: Tensor) -> dict[str, Tensor]:
        """
        :param features: of the residue, :math:`B \\times F`
        :return: what they say, by name
        """
        readings = self._shape()(features)
        return dict(zip(SHAPES, readings.unbind(dim=1), strict=True))

    def forward(self, numbers: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """
        :param numbers: name -> evidence of shape :math:`B`
        :return: verdicts of shape :math:`B`, int64; log-odds of ID, OOD, ADV and NOISY; and
            p-values of the last three
        """
        first, full = (
            Rule(self.first_names, **self.first.tensors()),
            Rule(self.names, **self.full.tensors()),
        )
        z = first(numbers)
        if self.look != "never":
            learnt = Learnt(self._shape(), first, full, self.get_buffer("open_above"))
            z = torch.where(learnt.asked(z, self.look)[:, None], full(numbers), z)
        verdicts, p_values = self.conclude(z)
        return verdicts, z, p_values

    def conclude(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """
        :param z: log-odds, :math:`B \\times 4`
        :return: verdicts of shape :math:`B`, and p-values of OOD, ADV and NOISY
        """
        thresholds = Thresholds(**self.thresholds.tensors())
        finite = z.isfinite().all(dim=1)
        verdicts = torch.where(finite, thresholds.verdicts(z), int(Verdict.OOD))
        p_values = {}
        for place, verdict in enumerate(ALARMS):
            odds = z[:, ORDER.index(verdict)] - z[:, 0]
            known = thresholds.known[place]
            # exporters know no binary search
            above = (known >= odds[:, None]).sum(dim=1)
            p_values[verdict.name] = (1 + above).double() / (len(known) + 1)
        return verdicts, p_values

    def _shape(self) -> Shape:
        return Shape(**self.shape.tensors())


def _tensors(rule: Rule) -> dict[str, Tensor]:
    return {name: value for name, value in vars(rule).items() if isinstance(value, Tensor)}
