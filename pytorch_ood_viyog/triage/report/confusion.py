"""
How often verdicts are right.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from ...evaluation.plotting import pyplot
from ..populations.verdict import Verdict

__all__ = ["Confusion"]


_ORDER = (Verdict.ID, Verdict.OOD, Verdict.ADV, Verdict.NOISY)


@dataclass(frozen=True)
class Confusion:
    """
    Confusion of the classes.

    :param confusion: counts, :math:`3 \\times 4`, or :math:`4 \\times 4` where noisy samples were
        judged; rows are the truth, columns the verdict, both in the order ID, OOD, ADV, NOISY
    """

    confusion: Tensor

    @classmethod
    def of(cls, id: Tensor, ood: Tensor, adv: Tensor, noisy: Tensor | None = None) -> Self:
        """
        :param id: verdicts for ID samples
        :param ood: verdicts for OOD samples
        :param adv: verdicts for ADV samples
        :param noisy: verdicts for ID samples with benign changes, if there are any
        :return: the report
        :raises ValueError: if one of them is empty or holds anything but verdicts
        """
        rows = []
        given = {"id": id, "ood": ood, "adv": adv} | ({} if noisy is None else {"noisy": noisy})
        for name, verdicts in given.items():
            counts = torch.stack([(verdicts == verdict).sum() for verdict in _ORDER])
            if len(verdicts) == 0 or int(counts.sum()) != len(verdicts):
                raise ValueError(
                    f"{name} must hold verdicts (0, 1, -1, 2) and at least one of them."
                )
            rows.append(counts.cpu())
        return cls(torch.stack(rows))

    @property
    def shares(self) -> Tensor:
        """Confusion with rows that sum to 1, float64."""
        return self.confusion.double() / self.confusion.sum(dim=1, keepdim=True)

    def share(self, truth: Verdict, verdict: Verdict) -> float:
        """:return: share of the samples of class ``truth`` that were taken for ``verdict``"""
        return float(self.shares[_ORDER.index(truth), _ORDER.index(verdict)])

    @property
    def recall(self) -> dict[Verdict, float]:
        """Share of each class that was recognised."""
        return {verdict: self.share(verdict, verdict) for verdict in self.truths}

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the recalls."""
        return sum(self.recall.values()) / len(self.truths)

    @property
    def truths(self) -> tuple[Verdict, ...]:
        """The classes that were judged."""
        return _ORDER[: len(self.confusion)]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What the columns stand for."""
        return _ORDER

    @property
    def id_false_alarm_rate(self) -> float:
        """Share of the ID samples that raised any alarm."""
        return 1 - self.recall[Verdict.ID]

    def plot(self, axes: Any = None) -> Any:
        """
        Draw the confusion table. Needs matplotlib.

        :param axes: matplotlib axes to draw on; default is a new figure
        :return: the axes
        :raises ImportError: if matplotlib is not installed
        """
        if axes is None:
            _, axes = pyplot().subplots(figsize=(4, 4), layout="constrained")
        names = [verdict.name for verdict in _ORDER]
        axes.imshow(self.shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="verdict", ylabel="truth")
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(self.truths)), names[: len(self.truths)])
        for row, counts in enumerate(self.confusion.tolist()):
            for column, count in enumerate(counts):
                share = float(self.shares[row, column])
                color = "white" if share > 0.5 else "black"
                text = f"{share:.1%}\n{count}"
                axes.text(column, row, text, ha="center", va="center", color=color)
        axes.set_title(f"balanced accuracy {self.balanced_accuracy:.3f}")
        return axes

    def __str__(self) -> str:
        lines = ["truth    verdict:  ID     OOD     ADV   NOISY   samples"]
        for verdict, counts, shares in zip(
            self.truths, self.confusion.tolist(), self.shares.tolist(), strict=True
        ):
            cells = "  ".join(f"{share:6.1%}" for share in shares)
            lines.append(f"{verdict.name:<15} {cells}   {sum(counts):7d}")
        lines.append(
            f"balanced accuracy {self.balanced_accuracy:.3f}, "
            f"ID false alarms {self.id_false_alarm_rate:.1%}"
        )
        return "\n".join(lines)
