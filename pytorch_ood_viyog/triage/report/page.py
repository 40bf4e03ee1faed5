"""
A report of verdicts as parts of a page.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ...detectors.way_check import WayCheck
from ...evaluation.page import (
    Card,
    Reading,
    Section,
    Table,
    figure_picture,
    sample_pictures,
)
from ...evaluation.plotting import plot_scores
from ...evaluation.rows import Scores
from ...images.pixel_range import PixelRange
from ..explanation import Explanation
from ..populations.verdict import ORDER, Verdict
from .confusion import Confusion
from .judged import JudgedSample

__all__ = ["class_sections", "confusion_section", "score_section", "summary", "way_section"]


def summary(confusion: Confusion, id_fpr: float | None) -> tuple[str, str, str]:
    """
    :param confusion: how often verdicts are right
    :param id_fpr: rate of false alarms that was asked for, if any was
    :return: three sentences: ID, the other classes, the most frequent mistake
    """
    counts = confusion.confusion.sum(dim=1).tolist()
    asked = "" if id_fpr is None else f"; at most {100 * id_fpr:.3g}% of new ones were asked for"
    first = (
        f"Of {counts[0]} ID samples, {confusion.id_false_alarm_rate:.1%} raised an alarm{asked}."
    )
    others = [
        f"of {count} {truth.name} samples {confusion.recall[truth]:.1%} were recognised"
        for truth, count in zip(confusion.truths[1:], counts[1:], strict=True)
    ]
    second = f"O{', '.join(others)[1:]} (balanced accuracy {confusion.balanced_accuracy:.3f})."
    return first, second, _worst(confusion)


def _worst(confusion: Confusion) -> str:
    pairs = [(t, v) for t in confusion.truths for v in Verdict if v != t]
    truth, verdict = max(pairs, key=lambda pair: confusion.share(*pair))
    share = confusion.share(truth, verdict)
    if share == 0:
        return "There was no mistake."
    return (
        f"The most frequent mistake is {truth.name} taken for {verdict.name}, {share:.1%} of the "
        f"{truth.name} samples."
    )


def confusion_section(confusion: Confusion, listing: str) -> Section:
    """
    :param confusion: how often verdicts are right
    :param listing: the rule, as text
    :return: what was taken for what
    """
    head = ("truth", *(verdict.name for verdict in confusion.verdicts), "samples")
    rows = [
        (truth.name, *(f"{share:.1%}" for share in shares), str(sum(counts)))
        for truth, shares, counts in zip(
            confusion.truths, confusion.shares.tolist(), confusion.confusion.tolist(), strict=True
        )
    ]
    table = Table(head, tuple(rows), "Truth in rows, verdict in columns")
    return Section("Verdicts", tables=(table,), listing=listing)


def score_section(scores: Scores, truths: Sequence[Verdict]) -> Section:
    """
    :param scores: signal -> class -> scores
    :param truths: the classes
    :return: how the scores of the classes lie
    """
    kinds = {truth.name: [truth.name] for truth in truths}

    def draw(path: Path) -> Path:
        return plot_scores(scores, kinds, path)

    names = ", ".join(scores)
    alt = f"Histograms of the scores of {names}, one colour for each of {', '.join(kinds)}"
    return Section("Scores", figures=(figure_picture(draw, alt),))


def way_section(ways: Mapping[Verdict, WayCheck]) -> Section:
    """
    :param ways: class -> what a check of its samples found
    :return: whether they came the way of the calibration images
    """
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


def class_sections(samples: Sequence[JudgedSample], confusion: Confusion) -> tuple[Section, ...]:
    """
    :param samples: samples to look at
    :param confusion: how often verdicts are right
    :return: a section for each class, with its samples as they come
    """
    if not samples:
        return ()
    known = [sample.x for sample in samples if sample.truth == Verdict.ID]
    values = [x.reshape(len(x), -1) for x in known or [samples[0].x]]  # sizes may differ
    pixels = PixelRange.of(torch.cat(values, dim=1)[None], None)
    sections = []
    for truth, counts in zip(confusion.truths, confusion.confusion.tolist(), strict=True):
        own = [sample for sample in samples if sample.truth == truth]
        wrong = sum(counts) - counts[confusion.verdicts.index(truth)]
        text = (
            f"{wrong} of {sum(counts)} were taken for something else. The worst mistakes come "
            f"first, {_WORST[truth]}; then the first that were judged right."
        )
        cards = tuple(_card(sample, pixels) for sample in own)
        sections.append(Section(f"{truth.name} samples", (text,), cards=cards))
    return tuple(sections)


_WORST = {
    Verdict.ID: "those that seemed the most unusual",
    Verdict.OOD: "those that seemed the most ordinary",
    Verdict.ADV: "those that seemed the most ordinary",
    Verdict.NOISY: "those that seemed the most unusual",
}


# pieces of evidence that are shown
_SHOWN = 5
_NAMES = tuple(verdict.name for verdict in ORDER)


def explained_p(explained: Explanation, name: str) -> float | None:
    """:return: the p-value for a verdict; ``None`` for ID, which has none"""
    return float(explained.p_values[name][0]) if name in explained.p_values else None


def _card(sample: JudgedSample, pixels: PixelRange) -> Card:
    explained = sample.explanation
    readings = [
        Reading(f"{name} speaks by", value, None, None, False)
        for name, value in explained.strongest(0)[:_SHOWN]
    ]
    readings += [
        Reading(f"{name} odds", float(posterior), None, explained_p(explained, name), True)
        for name, posterior in zip(_NAMES, explained.posterior[0], strict=True)
    ]
    title = f"{sample.source or sample.truth.name} sample {sample.number}"
    return Card(
        title,
        f"taken for {sample.verdict.name}",
        sample.right,
        sample_pictures(pixels.images(sample.x[None])[0], sample.residue, title),
        tuple(readings),
        explained.second_answer(0),
    )
