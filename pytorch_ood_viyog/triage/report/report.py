"""
TriageReport: how often verdicts are right, and the page that shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import Self

from ...detectors.way_check import WayCheck
from ...evaluation.page import Page, Section, origin, write_page
from ...evaluation.rows import Scores
from ..populations.verdict import Verdict
from .confusion import Confusion
from .judged import JudgedClass, JudgedSample
from .page import class_sections, confusion_section, score_section, summary, way_section

__all__ = ["TriageReport"]


@dataclass(frozen=True)
class TriageReport(Confusion):
    """
    Verdicts against the truth: the confusion table and what follows from it, and the samples that
    are worth a look.

    .. rubric:: Examples

    .. code-block:: python

        report = triage.report(id_images, ood_images, adv_images)
        print(report)
        report.save("report.html")
    """

    #: signal -> class -> scores of all its samples
    scores: Scores = field(default_factory=dict)
    #: samples to look at, of each class the worst mistakes first
    samples: tuple[JudgedSample, ...] = ()
    #: rate of false alarms on ID data that was asked for, if any was
    id_fpr: float | None = None
    #: the rule, as text
    rule: str = ""
    #: seeds of the detectors, by name
    seeds: Mapping[str, int] = field(default_factory=dict)
    #: class -> whether its samples came the way of the calibration images, where there are ten
    ways: Mapping[Verdict, WayCheck] = field(default_factory=dict)

    @classmethod
    def of_classes(
        cls,
        classes: Sequence[JudgedClass],
        samples: Sequence[JudgedSample],
        id_fpr: float | None,
        rule: str,
        seeds: Mapping[str, int],
    ) -> Self:
        """
        :param classes: what became of ID, OOD and ADV samples, and of NOISY ones, if any
        :param samples: samples to look at
        :param id_fpr: rate of false alarms that was asked for, if any was
        :param rule: the rule, as text
        :param seeds: seeds of the detectors, by name
        :return: the report
        :raises ValueError: if a class is empty
        """
        found = cls.of(*(each.verdicts for each in classes))
        names = classes[0].scores
        scores: Scores = {
            name: {each.truth.name: each.scores[name] for each in classes} for name in names
        }
        return cls(found.confusion, scores, tuple(samples), id_fpr, rule, seeds)

    @property
    def summary(self) -> tuple[str, str, str]:
        """Three sentences: ID samples, the others, the most frequent mistake."""
        return summary(self, self.id_fpr)

    @property
    def named_seeds(self) -> dict[str, int]:
        """The seeds, under names that say whose they are."""
        return {f"seed of {name}": seed for name, seed in self.seeds.items()}

    def sections(self) -> tuple[Section, ...]:
        """:return: parts of a page: verdicts, scores, the way images came, samples by class"""
        first = [confusion_section(self, self.rule)]
        if self.scores:
            first.append(score_section(self.scores, self.truths))
        if self.ways:
            first.append(way_section(self.ways))
        return (*first, *class_sections(self.samples, self))

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
        page = Page(title, self.summary, (*self.sections(), origin(self.named_seeds)))
        return write_page(page, path)
