"""
TriageReport: how often verdicts are right, and the page that shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from ...detectors.way_check import FEWEST, WayCheck
from ...evaluation.page import Section, write_page
from ...evaluation.plotting import pyplot
from ...evaluation.rows import Scores
from ..populations.verdict import ORDER, Verdict
from ..verdicts import Verdicts
from .judged import JudgedSample, judged_class
from .page import class_sections, confusion_section, score_section, way_section

__all__ = ["TriageReport", "judged"]


@dataclass(frozen=True)
class TriageReport:
    """
    Verdicts against the truth: the confusion table and what follows from it, and the samples that
    are worth a look.

    .. rubric:: Examples

    .. code-block:: python

        report = triage.report(id_images, ood_images, adv_images)
        print(report)
        report.save("report.html")
    """

    #: counts, :math:`3 \times 4`, or :math:`4 \times 4` where noisy samples were judged; rows are
    #: the truth, columns the verdict, both in the order ID, OOD, ADV, NOISY
    confusion: Tensor
    #: signal -> class -> scores of all its samples
    scores: Scores = field(default_factory=dict)
    #: samples to look at, of each class the worst mistakes first
    samples: tuple[JudgedSample, ...] = ()
    #: rate of false alarms on ID data that was asked for, if any was
    id_fpr: float | None = None
    #: the rule, as text
    rule: str = ""
    #: seed of the triage
    seed: int | None = None
    #: class -> whether its samples came the way of the calibration images, where there are ten
    ways: Mapping[Verdict, WayCheck] = field(default_factory=dict)

    @classmethod
    def of(
        cls, id: Tensor, ood: Tensor, adv: Tensor, noisy: Tensor | None = None, **known: Any
    ) -> Self:
        """
        :param id: verdicts for ID samples
        :param ood: verdicts for OOD samples
        :param adv: verdicts for ADV samples
        :param noisy: verdicts for ID samples with benign changes, if there are any
        :param known: what else is known, see the attributes
        :return: the report
        :raises ValueError: if one of them is empty or holds anything but verdicts
        """
        rows = []
        given = {"id": id, "ood": ood, "adv": adv} | ({} if noisy is None else {"noisy": noisy})
        for name, verdicts in given.items():
            counts = torch.stack([(verdicts == verdict).sum() for verdict in ORDER])
            if len(verdicts) == 0 or int(counts.sum()) != len(verdicts):
                raise ValueError(
                    f"{name} must hold verdicts (0, 1, -1, 2) and at least one of them."
                )
            rows.append(counts.cpu())
        return cls(torch.stack(rows), **known)

    @property
    def shares(self) -> Tensor:
        """Confusion with rows that sum to 1, float64."""
        return self.confusion.double() / self.confusion.sum(dim=1, keepdim=True)

    def share(self, truth: Verdict, verdict: Verdict) -> float:
        """:return: share of the samples of class ``truth`` that were taken for ``verdict``"""
        return float(self.shares[ORDER.index(truth), ORDER.index(verdict)])

    @property
    def truths(self) -> tuple[Verdict, ...]:
        """The classes that were judged."""
        return ORDER[: len(self.confusion)]

    @property
    def recall(self) -> dict[Verdict, float]:
        """Share of each class that was recognised."""
        return {verdict: self.share(verdict, verdict) for verdict in self.truths}

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the recalls."""
        return sum(self.recall.values()) / len(self.truths)

    @property
    def id_false_alarm_rate(self) -> float:
        """Share of the ID samples that raised any alarm."""
        return 1 - self.recall[Verdict.ID]

    @property
    def summary(self) -> tuple[str, str, str]:
        """Three sentences: ID samples, the others, the most frequent mistake."""
        counts = self.confusion.sum(dim=1).tolist()
        asked = f"; at most {100 * (self.id_fpr or 0):.3g}% of new ones were asked for"
        first = (
            f"Of {counts[0]} ID samples, {self.id_false_alarm_rate:.1%} raised an alarm"
            f"{'' if self.id_fpr is None else asked}."
        )
        others = [
            f"of {count} {truth.name} samples {self.recall[truth]:.1%} were recognised"
            for truth, count in zip(self.truths[1:], counts[1:], strict=True)
        ]
        second = f"O{', '.join(others)[1:]} (balanced accuracy {self.balanced_accuracy:.3f})."
        pairs = [(t, v) for t in self.truths for v in Verdict if v != t]
        truth, verdict = max(pairs, key=lambda pair: self.share(*pair))
        third = (
            f"The most frequent mistake is {truth.name} taken for {verdict.name}, "
            f"{self.share(truth, verdict):.1%} of the {truth.name} samples."
        )
        wrong = self.share(truth, verdict) > 0
        return first, second, third if wrong else "There was no mistake."

    def sections(self) -> tuple[Section, ...]:
        """:return: parts of a page: verdicts, scores, the way images came, samples by class"""
        return (
            confusion_section(self.confusion, self.rule),
            *([score_section(self.scores, self.truths)] if self.scores else []),
            *([way_section(self.ways)] if self.ways else []),
            *class_sections(self.samples, self.confusion),
        )

    def save(self, path: str | Path, title: str = "Triage") -> Path:
        """
        Write one HTML file that needs no other: summary, tables, figures, samples with what is
        behind their verdicts, worst mistakes first, and how it was made. Needs the extra
        ``report``.

        :param path: file to write; folders are made
        :param title: heading
        :return: the file
        :raises ImportError: if Jinja2, matplotlib or Pillow is not installed
        """
        facts = {} if self.seed is None else {"seed of Triage": self.seed}
        return write_page(path, title, self.summary, self.sections(), facts)

    def plot(self, axes: Any = None) -> Any:
        """
        Draw the confusion table. Needs matplotlib.

        :param axes: matplotlib axes to draw on; default is a new figure
        :return: the axes
        :raises ImportError: if matplotlib is not installed
        """
        if axes is None:
            _, axes = pyplot().subplots(figsize=(4, 4), layout="constrained")
        names = [verdict.name for verdict in ORDER]
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


def judged(
    triage: Verdicts, id: Any, ood: Any, adv: Any, noisy: Any | None, progress: bool
) -> TriageReport:
    """:return: what :meth:`~pytorch_ood_viyog.triage.triage.Triage.report` returns"""
    given = {Verdict.ID: id, Verdict.OOD: ood, Verdict.ADV: adv}
    given |= {} if noisy is None else {Verdict.NOISY: noisy}
    classes = [judged_class(triage, truth, x, progress) for truth, x in given.items()]
    enough = [each for each in classes if len(each.verdicts) >= FEWEST]
    return TriageReport.of(
        *(each.verdicts for each in classes),
        scores={n: {c.truth.name: c.scores[n] for c in classes} for n in classes[0].scores},
        samples=tuple(sample for each in classes for sample in each.samples),
        id_fpr=triage.id_fpr,
        rule=repr(triage),
        seed=triage.seed,
        ways={each.truth: triage.drift.check_readings(each.readings) for each in enough},
    )
