"""
A benchmark as parts of a page: what came out in three sentences, tables, figures.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from ...evaluation.page import Picture, Section, figure_picture
from ...evaluation.plotting import plot_auroc, plot_scores
from ...evaluation.rows import TASKS, Row, Scores, mean_auroc
from ..attacks.size import AttackSize
from .shown import best_detector
from .tables import explanation, failures, tables

__all__ = ["result_sections", "summary"]


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
    task = TASKS.get(worst["Task"], "benign-vs-ADV")
    between = " against ".join(filter(None, (worst["Attack"], worst["Dataset"] or "ID")))
    third = f"It is weakest on {task}, {between}, with {worst['AUROC']:.3f}."
    return first, second, third


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def result_sections(
    rows: Sequence[Row],
    sizes: Mapping[str, AttackSize],
    scores: Scores,
    kinds: Mapping[str, Sequence[str]],
) -> tuple[Section, ...]:
    """
    :param rows: rows of the benchmark
    :param sizes: attacks by name, with their sizes
    :param scores: detector -> name of the images -> scores, or an error as text
    :param kinds: ``"ID"``, ``"OOD"``, ... with the names of their images
    :return: tables, figures, and errors where there are any
    """
    found = [
        Section("Results", (explanation(rows),), tables=tuple(tables(rows, sizes))),
        Section("Figures", figures=_figures(rows, scores, kinds)),
    ]
    if errors := failures(rows):
        found.append(Section("Errors", tuple(f"{name}: {error}" for name, error in errors)))
    return tuple(found)


def _figures(
    rows: Sequence[Row], scores: Scores, kinds: Mapping[str, Sequence[str]]
) -> tuple[Picture, ...]:
    names = f"{', '.join(scores)} on {', '.join(kinds)}"
    return (
        figure_picture(partial(plot_auroc, rows), "AUROC of each detector on each task, as above"),
        figure_picture(partial(plot_scores, scores, kinds), f"Histograms of scores: {names}"),
    )
