"""
A benchmark as parts of a page: what came out in three sentences, tables, figures, and images with
what the best detector makes of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from ...evaluation.page import (
    Card,
    Reading,
    Section,
    figure_picture,
    sample_pictures,
    worst_first,
)
from ...evaluation.plotting import plot_auroc, plot_scores
from ...evaluation.rows import TASKS, Row, Scores, mean_auroc
from ...triage.rule.conformal import conformal_p_values
from ..attacks.size import AttackSize
from .tables import explanation, failures, tables

__all__ = ["best_detector", "result_sections", "shown_sections", "summary"]

Kinds = Mapping[str, Sequence[str]]

# detectors whose scores are on a card, and share of ID images that raise an alarm
_READINGS, _ID_FPR = 6, 0.05


def summary(rows: Sequence[Row], sizes: Mapping[str, AttackSize]) -> tuple[str, str, str]:
    """
    :param rows: rows of the benchmark
    :param sizes: attacks by name, with their sizes
    :return: three sentences: what was done, which detector is best, where it is weakest
    """
    detectors = {row["Detector"] for row in rows}
    sets = {row["Dataset"] for row in rows if row["Task"] == "T1"}
    attacked = sum(size.succeeded for size in sizes.values())
    failed = {name for name, _ in failures(rows)}
    first = (
        f"{_count(len(detectors), 'detector')} judged ID images, {_count(len(sets), 'OOD set')} "
        f"and {_count(len(sizes), 'attack')} with {_count(attacked, 'adversarial image')}"
        f"{f', {len(failed)} of them with errors' if failed else ''}."
    )
    positive = "ADV" if sizes else "OOD"
    best = best_detector(rows, positive)
    if best is None:
        return first, "No detector gave scores.", "The errors are at the end."
    own = [row for row in rows if row["Detector"] == best and not row["Error"]]
    counted = [row for row in own if row["Task"] in (("T2", "T3") if sizes else ("T1",))]
    means = {task: mean_auroc(r for r in counted if r["Task"] == task) for task in TASKS}
    told = [f"{v:.3f} on {TASKS[t]}" for t, v in means.items() if not math.isnan(v)]
    second = f"{best} tells {positive} images apart best: mean AUROC {' and '.join(told)}."
    # benign changes do not choose the best, but where it fails is told
    worst = min([*counted, *(r for r in own if r["Task"] == "T4")], key=lambda r: r["AUROC"])
    between = " against ".join(filter(None, (worst["Attack"], worst["Dataset"] or "ID")))
    third = f"It is weakest on {TASKS[worst['Task']]}, {between}, with {worst['AUROC']:.3f}."
    return first, second, third


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def best_detector(rows: Sequence[Row], positive: str) -> str | None:
    """
    :param rows: rows of the benchmark
    :param positive: ``"ADV"`` or ``"OOD"``
    :return: detector with the largest mean AUROC, of the tasks in which these images are the
        positive class; ``None`` if all failed
    """
    means = {}
    for name in dict.fromkeys(row["Detector"] for row in rows):
        own = [row for row in rows if row["Detector"] == name]
        tasks = ("T2", "T3") if positive == "ADV" else ("T1",)
        found = [mean_auroc(row for row in own if row["Task"] == task) for task in tasks]
        if known := [mean for mean in found if not math.isnan(mean)]:
            means[name] = sum(known) / len(known)
    return max(means, key=means.__getitem__) if means else None


def result_sections(
    rows: Sequence[Row], sizes: Mapping[str, AttackSize], scores: Scores, kinds: Kinds
) -> list[Section]:
    """:return: tables, figures, and errors where there are any"""
    told = f"Histograms of scores: {', '.join(scores)} on {', '.join(kinds)}"
    figures = (
        figure_picture(partial(plot_auroc, rows), "AUROC of each detector on each task, as above"),
        figure_picture(partial(plot_scores, scores, kinds), told),
    )
    found = [
        Section("Results", (explanation(rows),), tables=tuple(tables(rows, sizes))),
        Section("Figures", figures=figures),
    ]
    if errors := failures(rows):
        found.append(Section("Errors", tuple(f"{name}: {error}" for name, error in errors)))
    return found


def shown_sections(
    scores: Scores,
    deciding: str,
    positive: str,
    kinds: Kinds,
    images: Mapping[str, Dataset[Any]],
    residue: Callable[[Tensor], Tensor | None],
) -> Iterator[Section]:
    """
    Images judged by one detector alone, with an alarm above what 95 % of the ID images score.

    :param scores: detector -> name of the images -> scores, or an error as text
    :param deciding: the detector whose alarms count
    :param positive: the kind of images that should raise an alarm
    :param kinds: ``"ID"``, ``"OOD"``, ... with the names of their images
    :param images: name -> images
    :param residue: image -> residue at each place, shape :math:`H' \\times W'`, or ``None``
    :return: a section for each kind of which there are images, worst mistakes first
    """
    # of detectors that failed elsewhere, the scores of ID images are there all the same
    known = {
        name: found.sort().values
        for name, own in scores.items()
        if isinstance(found := own.get("ID"), Tensor)
    }
    limit = float(known[deciding].double().quantile(1 - _ID_FPR, interpolation="higher"))

    def readings(image: _Judged) -> Iterator[Reading]:
        for name in [deciding, *(n for n in known if n != deciding)][:_READINGS]:
            if isinstance(own := scores[name].get(image.name), Tensor):
                score, decides = own[image.index], name == deciding
                p_value = float(conformal_p_values(known[name], score[None])[0])
                yield Reading(name, float(score), limit if decides else None, p_value, decides)

    def card(image: _Judged) -> Card:
        title = f"{image.name} image {image.index}"
        pixels = images[image.name][image.index][0]
        verdict = f"{'' if image.alarm else 'not '}taken for {positive}"
        pictures = sample_pictures(pixels, residue(pixels), title)
        return Card(title, verdict, image.right, pictures, tuple(readings(image)))

    for kind, names in kinds.items():
        upwards = kind == positive
        judged = [
            _Judged(
                name, i, score > limit, (score > limit) == upwards, -score if upwards else score
            )
            for name in names
            if isinstance(values := scores[deciding].get(name), Tensor)
            for i, score in enumerate(values.tolist())
        ]
        if not judged:
            continue
        text = (
            f"{deciding} alone, with an alarm above what {1 - _ID_FPR:.0%} of the ID images "
            f"score, is wrong on {sum(not j.right for j in judged)} of {len(judged)}. The worst "
            f"mistakes come first, those with the {'lowest' if upwards else 'highest'} scores; "
            f"then the first that were judged right. p is the share of ID test images that score "
            f"as high."
        )
        shown = worst_first(sorted(judged, key=lambda j: j.index))
        yield Section(f"{kind} images", (text,), cards=tuple(map(card, shown)))


@dataclass(frozen=True)
class _Judged:
    """An image of a set, whether its score is an alarm, and how bad it is if that is wrong."""

    name: str
    index: int
    alarm: bool
    right: bool
    severity: float
