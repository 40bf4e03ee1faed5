"""
Rows of the benchmark from scores.
"""

import math
from collections.abc import Mapping, Sequence
from zlib import crc32

from torch import Tensor
from tqdm import tqdm

from ..evaluation.bootstrap import METRICS, metrics_with_intervals, resample
from ..evaluation.rows import Row, Scores
from .attacks.size import AttackSize

__all__ = ["task_rows"]

_INTERVALS = [f"{metric}{end}" for metric in METRICS for end in ("", " low", " high")]


def task_rows(
    scores: Scores,
    ood: Sequence[str],
    sizes: Mapping[str, AttackSize],
    *,
    benign: Sequence[str],
    resamples: int,
    seed: int,
    costs: Mapping[str, Mapping[str, float]],
    accuracy: float,
    min_images: int,
    progress: bool,
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
    comparisons = [
        *(("T1", "ID", name) for name in ood),
        *(("T2", "ID", attack) for attack in sizes),
        *(("T3", name, attack) for name in ood for attack in sizes),
        *(("T4", name, attack) for name in benign for attack in sizes),
    ]
    counts: dict[str, Tensor] = {}
    failed = {name: f"attack {name}: {size.error}" for name, size in sizes.items() if size.error}
    rows = []
    bar = tqdm(scores.items(), desc="compare", leave=False, disable=not progress)
    for detector, own in bar:
        for task, negative, positive in comparisons:
            row: Row = {"Detector": detector, "Task": task}
            row |= {"Dataset": positive if task == "T1" else "" if task == "T2" else negative}
            row |= {"Attack": "" if task == "T1" else positive}
            pair = {n: own.get(n, failed.get(n)) for n in (negative, positive)}
            row |= _metrics(pair, min_images, counts, resamples, seed)
            row |= _size(sizes.get(positive)) | {"CleanAccuracy": accuracy}
            rows.append(row | dict(costs[detector]))
    return [row | {"Error": row.pop("Error")} for row in rows]


def _metrics(
    pair: Mapping[str, Tensor | str | None],
    min_images: int,
    counts: dict[str, Tensor],
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
