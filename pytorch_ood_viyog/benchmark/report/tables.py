"""
Rows of the benchmark as tables: CSV, Markdown, and for a page.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluation.page import Table
from ...evaluation.rows import PIVOTS, TASKS, Row, mean_auroc, pivot
from ..attacks.size import AttackSize

__all__ = ["explanation", "failures", "save_tables", "tables", "write_csv"]


def save_tables(rows: Sequence[Row], sizes: Mapping[str, AttackSize], path: Path) -> list[Path]:
    """:return: the files written, ``path.csv`` and ``path.md``"""
    table, text = write_csv(rows, Path(f"{path}.csv")), Path(f"{path}.md")
    text.write_text(markdown(rows, sizes, path.name), encoding="utf-8")
    return [table, text]


def write_csv(rows: Sequence[Row], path: Path) -> Path:
    """:return: the file, with rows of the same fields; folders are made"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in rows)
    return path


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.4g}"


def markdown(rows: Sequence[Row], sizes: Mapping[str, AttackSize], title: str) -> str:
    """:return: tables of the attacks, of AUROC on each task, of cost, and of errors"""
    parts = [f"# {title}", explanation(rows)]
    for table in tables(rows, sizes):
        parts += [f"## {table.caption}", _markdown_table(table)]
    if errors := failures(rows):
        parts += ["## Errors", *(f"- {name}: {error}" for name, error in errors)]
    return "\n\n".join(parts) + "\n"


def failures(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """:return: detectors that failed, with the message"""
    return sorted({(row["Detector"], row["Error"]) for row in rows if row["Error"]})


def tables(rows: Sequence[Row], sizes: Mapping[str, AttackSize]) -> list[Table]:
    """:return: the attacks, AUROC on each task, and cost"""
    found = []
    if sizes:
        lines = tuple(_attack_line(name, size) for name, size in sizes.items())
        found.append(Table(_ATTACK_HEAD, lines, "Attacks"))
    for task, column, told in PIVOTS:
        cells = pivot(rows, task, column)
        if cells:
            found.append(_auroc_table(rows, task, cells, f"{task} {TASKS[task]}, {told}"))
    costs = {row["Detector"]: row.get("SecondsPerImage", math.nan) for row in rows}
    lines = tuple((name, _number(1000 * cost, ".3g")) for name, cost in costs.items())
    found.append(Table(("detector", "ms per image"), lines, "Cost, each detector by itself"))
    return found


def explanation(rows: Sequence[Row]) -> str:
    """:return: how to read the tables, and how often the model is right on clean images"""
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
