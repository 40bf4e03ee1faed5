"""
What is behind verdicts, for people to read.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from .populations.verdict import ORDER, Verdict
from .rule.evidence import FLAT, Reading
from .rule.rule import Learnt
from .rule.thresholds import Thresholds

__all__ = ["Explanation", "explanation"]

# pieces of evidence that are named for a sample, and share of constant windows that is
_NAMED, _FLAT = 3, 0.1


@dataclass(frozen=True)
class Explanation:
    """What is behind the verdicts for a batch of :math:`B` samples."""

    #: values of :class:`Verdict`, shape :math:`B`
    verdicts: Tensor
    #: probabilities of ID, OOD, ADV and NOISY, :math:`B \\times 4`
    posterior: Tensor
    #: evidence -> number of shape :math:`B`; NaN where the model was not asked again
    scores: dict[str, Tensor]
    #: evidence -> log-odds of ID, OOD, ADV and NOISY that it adds beyond the ID median,
    #: :math:`B \\times 4`; NaN where the model was not asked again
    log_odds: dict[str, Tensor]
    #: OOD, ADV and NOISY -> share of ID calibration images for which as much speaks, :math:`B`
    p_values: dict[str, Tensor]
    #: class that the model answers, shape :math:`B`
    first: Tensor
    #: class that it answers to the filtered image, -1 where it was not asked, shape :math:`B`
    second: Tensor

    @property
    def asked(self) -> Tensor:
        """Whether the model was asked again, shape :math:`B`."""
        return self.second >= 0

    @property
    def least_p(self) -> Tensor:
        """The smallest of the p-values, shape :math:`B`."""
        return torch.stack([*self.p_values.values()]).amin(dim=0)

    def sample(self, i: int) -> "Explanation":
        """
        :param i: index of a sample in the batch
        :return: what is behind its verdict alone, on the CPU
        """

        def own(values: Tensor) -> Tensor:
            return values[i : i + 1].cpu().clone()

        def each(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: own(column) for name, column in values.items()}

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        parts: dict[str, Any] = {
            name: each(value) if isinstance(value, dict) else own(value)
            for name, value in values.items()
        }
        return Explanation(**parts)

    def strongest(self, i: int) -> list[tuple[str, float]]:
        """
        :param i: index of a sample in the batch
        :return: evidence and the log-odds by which it speaks for the verdict, against ID (or,
            where the verdict is ID, against what is most likely otherwise); largest first
        """
        one, other = (ORDER.index(v) for v in (Verdict(int(self.verdicts[i])), self._against(i)))
        found = {
            name: float(odds[i, one] - odds[i, other]) for name, odds in self.log_odds.items()
        }
        known = [(name, value) for name, value in found.items() if value == value]
        return sorted(known, key=lambda pair: -abs(pair[1]))

    def _against(self, i: int) -> Verdict:
        """ID, or for the verdict ID the likeliest alarm."""
        if Verdict(int(self.verdicts[i])) != Verdict.ID:
            return Verdict.ID
        return ORDER[1 + int(self.posterior[i, 1:].argmax())]

    def second_answer(self, i: int) -> str:
        """
        :param i: index of a sample in the batch
        :return: what the model answered when it was asked again, empty where it was not
        """
        if int(self.second[i]) < 0:
            return ""
        return f"asked again: class {int(self.second[i])}, at first {int(self.first[i])}"

    def flat_share(self, i: int) -> str:
        """
        :param i: index of a sample in the batch
        :return: how much of the image is constant and was not read, empty where that is little
        """
        share = float(self.scores[FLAT][i]) if FLAT in self.scores else 0.0
        return f"{share:.0%} of the windows are constant, not read" if share >= _FLAT else ""

    def __str__(self) -> str:
        return "\n".join(self._line(i) for i in range(len(self.verdicts)))

    def _line(self, i: int) -> str:
        verdict = Verdict(int(self.verdicts[i]))
        shares = zip(ORDER, self.posterior[i].tolist(), strict=True)
        odds = ", ".join(f"{each.name} {share:.2f}" for each, share in shares)
        ranks = ", ".join(f"{name} {float(p[i]):.3f}" for name, p in self.p_values.items())
        said = ", ".join(f"{name} {value:+.1f}" for name, value in self.strongest(i)[:_NAMED])
        said = f"log-odds against {self._against(i).name}: {said}"
        parts = [odds, f"p-values {ranks}", said, self.flat_share(i), self.second_answer(i)]
        parts = [part for part in parts if part]
        return f"{i:4d}  {verdict.name:<5} {'; '.join(parts)}"


def explanation(reading: Reading, rule: Learnt, thresholds: Thresholds) -> Explanation:
    """
    :param reading: what a batch tells
    :param rule: what evidence says
    :param thresholds: when that means an alarm
    :return: verdicts and what is behind them
    """
    z, asked = reading.z, reading.asked
    rules = [(rule.first, ~asked)]
    rules += [] if rule.full is None else [(rule.full, asked)]
    names = rules[-1][0].names
    odds = {name: torch.full((len(z), len(ORDER)), torch.nan).to(z) for name in names}
    for each, chosen in rules:
        if not bool(chosen.any()):
            continue
        known = {name: reading.numbers[name][chosen] for name in each.names}
        for name, added in zip(each.names, each.contributions(known).unbind(1), strict=True):
            odds[name][chosen] = added
    unknown = torch.full_like(z[:, 0], torch.nan)
    return Explanation(
        verdicts=thresholds.verdicts(z),
        posterior=z.softmax(dim=1),
        scores={name: reading.numbers.get(name, unknown) for name in names},
        log_odds=odds,
        p_values=thresholds.p_values(z),
        first=reading.logits.argmax(dim=1),
        second=reading.second,
    )
