"""
Images of a benchmark to look at, with what the best detector makes of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from ..evaluation.page import Card, Reading, Section, image_picture
from ..evaluation.rows import Row, Scores, mean_auroc
from ..triage.conformal import conformal_p_values

__all__ = ["best_detector", "sample_sections"]

# images of a kind: so many mistakes, and as many others
_KEPT = 4
# detectors whose scores are on a card
_READINGS = 6
_ID_FPR = 0.05


def best_detector(rows: Sequence[Row], positive: str) -> str | None:
    """
    :param rows: rows of the benchmark
    :param positive: ``"ADV"`` or ``"OOD"``
    :return: detector with the largest mean AUROC, of the tasks in which these images are the
        positive class; ``None`` if all failed
    """
    tasks = ("T2", "T3") if positive == "ADV" else ("T1",)
    means: dict[str, list[float]] = {}
    for name in dict.fromkeys(row["Detector"] for row in rows if not row["Error"]):
        own = [row for row in rows if row["Detector"] == name]
        found = [mean_auroc(row for row in own if row["Task"] == task) for task in tasks]
        means[name] = [mean for mean in found if not math.isnan(mean)]
    known = {name: sum(found) / len(found) for name, found in means.items() if found}
    return max(known, key=known.__getitem__) if known else None


def sample_sections(
    scores: Scores,
    deciding: str,
    kinds: Mapping[str, Sequence[str]],
    positive: str,
    images: Mapping[str, Dataset[Any]],
) -> tuple[Section, ...]:
    """
    :param scores: detector -> name of the images -> scores, or an error as text
    :param deciding: the detector whose alarms are looked at
    :param kinds: ``"ID"``, ``"OOD"``, ... with the names of their images
    :param positive: the kind that should raise an alarm
    :param images: name -> images
    :return: a section for each kind, worst mistakes first
    """
    known = scores[deciding]["ID"]
    if not isinstance(known, Tensor):
        return ()
    limit = float(known.double().quantile(1 - _ID_FPR, interpolation="higher"))
    sections = []
    for kind, names in kinds.items():
        found = _judged(scores[deciding], names, limit, kind == positive)
        if not found:
            continue
        wrong = [sample for sample in found if not sample.right]
        worst = "lowest" if kind == positive else "highest"
        text = (
            f"{deciding} alone, with an alarm above what {1 - _ID_FPR:.0%} of the ID images "
            f"score, is wrong on {len(wrong)} of {len(found)}. The worst mistakes come first, "
            f"those with the {worst} scores; then the first that were judged right. p is the "
            f"share of ID test images that score as high."
        )
        wrong.sort(key=lambda sample: sample.score if kind == positive else -sample.score)
        right = sorted((s for s in found if s.right), key=lambda sample: sample.index)
        shown = wrong[:_KEPT] + right[:_KEPT]
        order = [deciding, *(name for name in scores if name != deciding)][:_READINGS]
        cards = tuple(_card(s, scores, order, positive, limit, images[s.name]) for s in shown)
        sections.append(Section(f"{kind} images", (text,), cards=cards))
    return tuple(sections)


@dataclass(frozen=True)
class _Judged:
    name: str
    index: int
    score: float
    alarm: bool
    right: bool


def _judged(
    own: Mapping[str, Tensor | str], names: Sequence[str], limit: float, alarms: bool
) -> list[_Judged]:
    return [
        _Judged(name, i, score, score > limit, (score > limit) == alarms)
        for name in names
        if isinstance(values := own.get(name), Tensor)
        for i, score in enumerate(values.tolist())
    ]


def _card(
    sample: _Judged,
    scores: Scores,
    order: Sequence[str],
    positive: str,
    limit: float,
    images: Dataset[Any],
) -> Card:
    title = f"{sample.name} image {sample.index}"
    picture = image_picture(images[sample.index][0], title)
    return Card(
        title,
        f"{'' if sample.alarm else 'not '}taken for {positive}",
        sample.right,
        () if picture is None else (picture,),
        tuple(_readings(sample, scores, order, limit)),
    )


def _readings(
    sample: _Judged, scores: Scores, order: Sequence[str], limit: float
) -> list[Reading]:
    found = []
    for name in order:
        known, own = scores[name].get("ID"), scores[name].get(sample.name)
        if isinstance(known, Tensor) and isinstance(own, Tensor):
            score = own[sample.index]
            p_value = float(conformal_p_values(known.sort().values, score[None])[0])
            decides = name == order[0]
            found.append(Reading(name, float(score), limit if decides else None, p_value, decides))
    return found
