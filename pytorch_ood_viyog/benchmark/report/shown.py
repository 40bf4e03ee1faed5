"""
Images of a benchmark to look at, with what the best detector makes of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from ...evaluation.page import Card, Reading, Section, sample_pictures
from ...evaluation.rows import Row, Scores, mean_auroc
from ...triage.rule.conformal import conformal_p_values

__all__ = ["ShownImages", "best_detector"]

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


@dataclass(frozen=True)
class _Judged:
    """An image of a set, and what its score means."""

    name: str
    index: int
    score: float
    alarm: bool
    right: bool


class ShownImages:
    """
    Judges the images of a benchmark by one detector alone, with an alarm above what 95 % of the ID
    images score, and shows of each kind the worst mistakes and some others.
    """

    def __init__(
        self,
        scores: Scores,
        deciding: str,
        positive: str,
        images: Mapping[str, Dataset[Any]],
        residue: Callable[[Tensor], Tensor | None],
    ):
        """
        :param scores: detector -> name of the images -> scores, or an error as text
        :param deciding: the detector whose alarms count
        :param positive: the kind of images that should raise an alarm
        :param images: name -> images
        :param residue: image -> residue at each place, shape :math:`H' \\times W'`, or ``None``
        """
        self.scores = scores
        self.deciding = deciding
        self.positive = positive
        self.images = images
        self.residue = residue
        # of detectors that failed elsewhere, the scores of ID images are there all the same
        self.known = {
            name: known.sort().values
            for name, own in scores.items()
            if isinstance(known := own.get("ID"), Tensor)
        }
        reference = self.known[deciding].double()
        self.limit = float(reference.quantile(1 - _ID_FPR, interpolation="higher"))

    def sections(self, kinds: Mapping[str, Sequence[str]]) -> tuple[Section, ...]:
        """
        :param kinds: ``"ID"``, ``"OOD"``, ... with the names of their images
        :return: a section for each kind of which there are images, worst mistakes first
        """
        judged = {kind: self._judged(kind, names) for kind, names in kinds.items()}
        return tuple(self._section(kind, found) for kind, found in judged.items() if found)

    def _judged(self, kind: str, names: Sequence[str]) -> list[_Judged]:
        own = self.scores[self.deciding]
        return [
            _Judged(name, i, s, s > self.limit, (s > self.limit) == (kind == self.positive))
            for name in names
            if isinstance(values := own.get(name), Tensor)
            for i, s in enumerate(values.tolist())
        ]

    def _section(self, kind: str, found: Sequence[_Judged]) -> Section:
        upwards = kind == self.positive
        wrong = sorted(
            (s for s in found if not s.right), key=lambda s: s.score, reverse=not upwards
        )
        right = sorted((s for s in found if s.right), key=lambda s: s.index)
        text = (
            f"{self.deciding} alone, with an alarm above what {1 - _ID_FPR:.0%} of the ID images "
            f"score, is wrong on {len(wrong)} of {len(found)}. The worst mistakes come first, "
            f"those with the {'lowest' if upwards else 'highest'} scores; then the first that "
            f"were judged right. p is the share of ID test images that score as high."
        )
        cards = tuple(self._card(sample) for sample in wrong[:_KEPT] + right[:_KEPT])
        return Section(f"{kind} images", (text,), cards=cards)

    def _card(self, sample: _Judged) -> Card:
        title = f"{sample.name} image {sample.index}"
        image = self.images[sample.name][sample.index][0]
        verdict = f"{'' if sample.alarm else 'not '}taken for {self.positive}"
        pictures = sample_pictures(image, self.residue(image), title)
        return Card(title, verdict, sample.right, pictures, tuple(self._readings(sample)))

    def _readings(self, sample: _Judged) -> list[Reading]:
        found = []
        others = [name for name in self.known if name != self.deciding]
        for name in [self.deciding, *others][:_READINGS]:
            own, decides = self.scores[name].get(sample.name), name == self.deciding
            if isinstance(own, Tensor):
                score = own[sample.index]
                p_value = float(conformal_p_values(self.known[name], score[None])[0])
                limit = self.limit if decides else None
                found.append(Reading(name, float(score), limit, p_value, decides))
        return found
