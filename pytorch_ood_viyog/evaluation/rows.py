"""
Rows of a benchmark, and means of them.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

__all__ = ["PIVOTS", "TASKS", "Row", "Scores", "mean_auroc", "pivot"]

Row = dict[str, Any]
#: detector -> name of the images -> scores of shape (N,), or the error as text
Scores = dict[str, dict[str, Tensor | str]]
#: the tasks, negative class first
TASKS = {"T1": "ID-vs-OOD", "T2": "ID-vs-ADV", "T3": "OOD-vs-ADV", "T4": "benign-vs-ADV"}
#: tables of them: task, what the columns are, and how that is told
PIVOTS = (
    ("T1", "Dataset", "by OOD set"),
    ("T2", "Attack", "by attack"),
    ("T3", "Attack", "by attack (mean over OOD sets)"),
    ("T3", "Dataset", "by OOD set (mean over attacks)"),
    ("T4", "Attack", "by attack (mean over benign changes)"),
    ("T4", "Dataset", "by benign change (mean over attacks)"),
)


def mean_auroc(rows: Iterable[Row]) -> float:
    """
    :param rows: rows, usually of one detector and one task
    :return: mean AUROC of the rows without error, NaN if there are none
    """
    values = [row["AUROC"] for row in rows if not row["Error"]]
    return sum(values) / len(values) if values else math.nan


def pivot(rows: Sequence[Row], task: str, column: str) -> dict[str, dict[str, float]]:
    """
    :param rows: rows of :func:`task_rows`
    :param task: a key of :data:`TASKS`
    :param column: ``"Dataset"`` or ``"Attack"``; what else differs is averaged over
    :return: detector -> value of ``column`` -> mean AUROC
    """
    cells: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row["Task"] == task:
            cells.setdefault(row["Detector"], {}).setdefault(row[column], []).append(row)
    return {
        detector: {name: mean_auroc(group) for name, group in own.items()}
        for detector, own in cells.items()
    }
