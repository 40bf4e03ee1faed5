"""
A report of verdicts as parts of a page.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...detectors.way_check import WayCheck
from ...evaluation.page import Card, Reading, Section, Table, figure_picture, sample_pictures
from ...evaluation.plotting import plot_scores
from ...evaluation.rows import Scores
from ...images.pixel_range import PixelRange
from ..populations.verdict import ORDER, Verdict
from .judged import JudgedSample

__all__ = ["class_sections", "confusion_section", "score_section", "way_section"]

# pieces of evidence that are shown
_SHOWN = 5


def confusion_section(confusion: Tensor, rule: str) -> Section:
    """:return: what was taken for what, by counts, and the rule"""
    rows = [
        (truth.name, *(f"{count / sum(counts):.1%}" for count in counts), str(sum(counts)))
        for truth, counts in zip(ORDER, confusion.tolist(), strict=False)
    ]
    head = ("truth", *(verdict.name for verdict in ORDER), "samples")
    table = Table(head, tuple(rows), "Truth in rows, verdict in columns")
    return Section("Verdicts", tables=(table,), listing=rule)


def score_section(scores: Scores, truths: Sequence[Verdict]) -> Section:
    """:return: how the scores of the classes lie"""
    kinds = {truth.name: [truth.name] for truth in truths}
    alt = (
        f"Histograms of the scores of {', '.join(scores)}, one colour for each of "
        f"{', '.join(kinds)}"
    )
    figure = figure_picture(lambda path: plot_scores(scores, kinds, path), alt)
    return Section("Scores", figures=(figure,))


def way_section(ways: Mapping[Verdict, WayCheck]) -> Section:
    """:return: whether the samples of each class came the way of the calibration images"""
    head = ("samples", "number", "p-value", "moved most", "by standard errors")
    rows = [
        (truth.name, str(way.count), f"{way.p_value:.4f}", way.reading, f"{way.shift:+.1f}")
        for truth, way in ways.items()
    ]
    text = (
        "The mean readings of each class beside those of the calibration images. A small p-value "
        "of ID samples says that codec, resize filter or rounding are others than those the "
        "thresholds were set on; attacks and foreign content move the means too.",
        ways[Verdict.ID].sentence if Verdict.ID in ways else "",
    )
    return Section("The way images came", text, tables=(Table(head, tuple(rows)),))


def class_sections(samples: Sequence[JudgedSample], confusion: Tensor) -> tuple[Section, ...]:
    """:return: a section for each class, with those of the samples that are its own"""
    if not samples:
        return ()
    known = [sample.x for sample in samples if sample.truth == Verdict.ID]
    values = [x.reshape(len(x), -1) for x in known or [samples[0].x]]  # sizes may differ
    pixels = PixelRange.of(torch.cat(values, dim=1)[None], None)
    sections = []
    for row, (truth, counts) in enumerate(zip(ORDER, confusion.tolist(), strict=False)):
        seemed = "ordinary" if truth in (Verdict.OOD, Verdict.ADV) else "unusual"
        text = (
            f"{sum(counts) - counts[row]} of {sum(counts)} were taken for something else. The "
            f"worst mistakes come first, those that seemed the most {seemed}; then the first that "
            f"were judged right."
        )
        cards = tuple(_card(sample, pixels) for sample in samples if sample.truth == truth)
        sections.append(Section(f"{truth.name} samples", (text,), cards=cards))
    return tuple(sections)


def _card(sample: JudgedSample, pixels: PixelRange) -> Card:
    explained = sample.explanation
    readings = [
        Reading(f"{name} speaks by", value) for name, value in explained.strongest(0)[:_SHOWN]
    ]
    for verdict, posterior in zip(ORDER, explained.posterior[0].tolist(), strict=True):
        p_value = explained.p_values.get(verdict.name)  # none of ID
        p = None if p_value is None else float(p_value[0])
        readings.append(Reading(f"{verdict.name} odds", posterior, None, p))
    title = f"{sample.source or sample.truth.name} sample {sample.number}"
    return Card(
        title,
        f"taken for {sample.verdict.name}",
        sample.right,
        sample_pictures(pixels.images(sample.x[None])[0], sample.residue, title),
        tuple(readings),
        explained.second_answer(0),
    )
