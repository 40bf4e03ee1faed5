"""
Rows of the benchmark from scores, and their tables as CSV and Markdown.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from torch import Tensor
from tqdm import tqdm

from ..evaluation.bootstrap import METRICS, metrics_with_intervals, resample
from ..evaluation.page import Table
from ..evaluation.rows import Row, Scores, mean_auroc, pivot
from .attacks.size import AttackSize

__all__ = ["explanation", "failures", "save_tables", "tables", "task_rows"]

Counts = dict[str, Tensor]


_INTERVALS = [f"{metric}{end}" for metric in METRICS for end in ("", " low", " high")]


def comparisons(
    ood: Sequence[str], attacks: Sequence[str], benign: Sequence[str] = ()
) -> list[tuple[str, str, str]]:
    """
    :param ood: names of OOD sets
    :param attacks: names of attacks
    :param benign: names of benign changes of ID images
    :return: task, name of the negative images, name of the positive images
    """
    first = [("T1", "ID", name) for name in ood]
    second = [("T2", "ID", name) for name in attacks]
    third = [("T3", name, attack) for name in ood for attack in attacks]
    return [*first, *second, *third, *(("T4", b, attack) for b in benign for attack in attacks)]


def task_rows(
    scores: Scores,
    ood: Sequence[str],
    sizes: Mapping[str, AttackSize],
    *,
    benign: Sequence[str] = (),
    resamples: int = 0,
    seed: int = 0,
    costs: Mapping[str, Mapping[str, float]] | None = None,
    accuracy: float = math.nan,
    min_images: int = 1,
    progress: bool = False,
) -> list[Row]:
    """
    Compare scores on all tasks.

    :param scores: of all detectors, for ``"ID"``, the OOD sets and the attacks
    :param ood: names of the OOD sets
    :param sizes: attacks by name, with their sizes
    :param benign: names of the benign changes of ID images
    :param resamples: bootstrap resamples, 0 for no intervals. All detectors share them.
    :param seed: seed of the resamples
    :param costs: more fields for every row of a detector
    :param accuracy: of the model on the clean ID images
    :param min_images: with fewer there are no metrics, but an error that tells the number
    :param progress: show a progress bar
    :return: one row for every detector, task and pair of images; NaN and ``Error`` where one of
        the two has no scores, or too few
    """
    counts: Counts = {}
    failed = {name: f"attack {name}: {size.error}" for name, size in sizes.items() if size.error}
    rows = []
    bar = tqdm(scores.items(), desc="compare", leave=False, disable=not progress)
    for detector, own in bar:
        for task, negative, positive in comparisons(ood, list(sizes), benign):
            row: Row = {"Detector": detector, "Task": task}
            row |= {"Dataset": positive if task == "T1" else "" if task == "T2" else negative}
            row |= {"Attack": "" if task == "T1" else positive}
            pair = {n: own.get(n, failed.get(n)) for n in (negative, positive)}
            row |= _metrics(pair, min_images, counts, resamples, seed)
            row |= _size(sizes.get(positive)) | {"CleanAccuracy": accuracy}
            rows.append(row | dict((costs or {}).get(detector, {})))
    return [row | {"Error": row.pop("Error")} for row in rows]


def _metrics(
    pair: Mapping[str, Tensor | str | None],
    min_images: int,
    counts: Counts,
    resamples: int,
    seed: int,
) -> Row:
    """Of the scores of negative and positive images, under their names."""
    empty = {"Negatives": 0, "Positives": 0} | dict.fromkeys(_INTERVALS, math.nan)
    problems = [p for p in (_problem(*named, min_images) for named in pair.items()) if p]
    sizes = [len(scores) if isinstance(scores, Tensor) else 0 for scores in pair.values()]
    empty |= {"Negatives": sizes[0], "Positives": sizes[1]}
    if problems:
        return empty | {"Error": "; ".join(dict.fromkeys(problems))}
    negative, positive = (scores for scores in pair.values() if isinstance(scores, Tensor))
    drawn = None
    if resamples:
        for name, size in zip(pair, sizes, strict=True):
            if name not in counts:
                counts[name] = resample(size, resamples, seed + crc32(name.encode()))
        first, second = pair
        drawn = counts[first], counts[second]
    return empty | metrics_with_intervals(negative, positive, drawn) | {"Error": ""}


def _problem(name: str, scores: Tensor | str | None, min_images: int) -> str:
    if isinstance(scores, str):
        return scores
    if scores is None or len(scores) == 0:
        return f"no images of {name}"
    if len(scores) < min_images:
        return f"too few to say anything: {len(scores)} of {name} ({min_images=})"
    return ""


def _size(size: AttackSize | None) -> Row:
    if size is None:
        return dict.fromkeys(("SuccessRate", "Linf", "RMS", "L2", "Pixels"), math.nan)
    sizes = {"Linf": size.linf, "RMS": size.rms, "L2": size.l2, "Pixels": size.pixels}
    return {"SuccessRate": size.success_rate} | sizes


def save_tables(
    rows: Sequence[Row], sizes: Mapping[str, AttackSize], path: Path, title: str = ""
) -> list[Path]:
    """
    :param rows: rows of :func:`task_rows`
    :param sizes: attacks by name, with their sizes
    :param path: where to, without suffix; folders are made
    :param title: heading of the Markdown file, the file's name by default
    :return: the files written, ``path.csv`` and ``path.md``
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    table, text = Path(f"{path}.csv"), Path(f"{path}.md")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in rows)
    text.write_text(markdown(rows, sizes, title or path.name), encoding="utf-8")
    return [table, text]


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.4g}"


def markdown(rows: Sequence[Row], sizes: Mapping[str, AttackSize], title: str) -> str:
    """
    :param rows: rows of :func:`task_rows`
    :param sizes: attacks by name, with their sizes
    :param title: heading
    :return: tables of the attacks, of AUROC on each task, of cost, and of errors
    """
    parts = [f"# {title}", explanation(rows)]
    for table in tables(rows, sizes):
        parts += [f"## {table.caption}", _markdown_table(table)]
    if errors := failures(rows):
        parts += ["## Errors", *(f"- {name}: {error}" for name, error in errors)]
    return "\n\n".join(parts) + "\n"


def failures(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """
    :param rows: rows of :func:`task_rows`
    :return: detectors that failed, with the message
    """
    return sorted({(row["Detector"], row["Error"]) for row in rows if row["Error"]})


def tables(rows: Sequence[Row], sizes: Mapping[str, AttackSize]) -> list[Table]:
    """
    :param rows: rows of :func:`task_rows`
    :param sizes: attacks by name, with their sizes
    :return: the attacks, AUROC on each task, and cost
    """
    found = []
    if sizes:
        lines = tuple(_attack_line(name, size) for name, size in sizes.items())
        found.append(Table(_ATTACK_HEAD, lines, "Attacks"))
    for task, column, heading in (
        ("T1", "Dataset", "T1 ID-vs-OOD, by OOD set"),
        ("T2", "Attack", "T2 ID-vs-ADV, by attack"),
        ("T3", "Attack", "T3 OOD-vs-ADV, by attack (mean over OOD sets)"),
        ("T3", "Dataset", "T3 OOD-vs-ADV, by OOD set (mean over attacks)"),
        ("T4", "Attack", "T4 benign-vs-ADV, by attack (mean over benign changes)"),
        ("T4", "Dataset", "T4 benign-vs-ADV, by benign change (mean over attacks)"),
    ):
        cells = pivot(rows, task, column)
        if cells:
            found.append(_auroc_table(rows, task, cells, heading))
    costs = {row["Detector"]: row.get("SecondsPerImage", math.nan) for row in rows}
    lines = tuple((name, _number(1000 * cost, ".3g")) for name, cost in costs.items())
    found.append(Table(("detector", "ms per image"), lines, "Cost, each detector by itself"))
    return found


def explanation(rows: Sequence[Row]) -> str:
    """
    :param rows: rows of :func:`task_rows`
    :return: how to read the tables, and how often the model is right on clean images
    """
    told = _number(rows[0].get("CleanAccuracy", math.nan), ".3f")
    return (
        "AUROC in the detectors' own direction, not folded: OOD is positive on T1, ADV else. "
        f"Below 0.5 the order is reversed. Clean accuracy of the model: {told}."
    )


_ATTACK_HEAD = (
    *("attack", "attacked", "succeeded", "rate", "L∞ in 1/255", "RMS in 1/255", "L2"),
    *("pixels changed", "clean accuracy", "remarks"),
)


def _attack_line(name: str, size: AttackSize) -> tuple[str, ...]:
    accuracy = size.attacked / size.images if size.images else math.nan
    numbers = {".3f": [size.success_rate], ".2f": [size.linf, size.rms, size.l2]}
    told = [_number(value, form) for form, values in numbers.items() for value in values]
    told += [_number(size.pixels, ".3f"), _number(accuracy, ".3f"), size.remarks]
    return name, str(size.attacked), str(size.succeeded), *told


def _auroc_table(
    rows: Sequence[Row], task: str, cells: dict[str, dict[str, float]], heading: str
) -> Table:
    columns = list(next(iter(cells.values())))
    lines = []
    for detector, own in cells.items():
        mean = mean_auroc(r for r in rows if r["Task"] == task and r["Detector"] == detector)
        numbers = [_number(own[name], ".3f") for name in columns]
        lines.append((detector, *numbers, _number(mean, ".3f")))
    return Table(("detector", *columns, "mean"), tuple(lines), heading, total=True)


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _markdown_table(table: Table) -> str:
    rule = ("---", *["--:"] * (len(table.head) - 1))
    lines = [(*row[:-1], f"**{row[-1]}**") for row in table.rows] if table.total else table.rows
    cells = ([cell.replace("|", "\\|") for cell in line] for line in (table.head, rule, *lines))
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
