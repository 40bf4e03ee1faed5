"""
Scores on disk as they come, so that a run that was killed goes on where it stopped.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module

from ..attacks.cache import keep, read_kept
from ..attacks.keys import data_digest, described

__all__ = ["ScoreStore", "score_stores"]


class ScoreStore:
    """
    Scores of the batches of some images: a file a batch, in which each detector has its own
    entry. Failures are not stored.
    """

    def __init__(self, folder: Path, keys: Mapping[str, str]):
        """
        :param folder: where to, of these images and this model
        :param keys: detector -> text that stands for it, its settings and its fit; those that
            are missing are not stored
        """
        self.folder = folder
        self._entries = {name: _hash(key) for name, key in keys.items()}

    def read(self, number: int) -> dict[str, Tensor]:
        """
        :param number: position of the batch
        :return: detector -> its scores, as far as they are known
        """
        found = self._held(number)
        return {name: found[entry] for name, entry in self._entries.items() if entry in found}

    def write(self, number: int, scores: Mapping[str, Tensor]) -> None:
        """
        :param number: position of the batch
        :param scores: detector -> its scores
        """
        new = {self._entries[n]: s.clone() for n, s in scores.items() if n in self._entries}
        if new:
            keep(self._file(number), self._held(number) | new)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.pt"

    def _held(self, number: int) -> dict[str, Tensor]:
        return read_kept(self._file(number), _as_dictionary) or {}


def _as_dictionary(kept: Any) -> dict[str, Tensor]:
    if not isinstance(kept, dict):
        raise TypeError(f"expected a dictionary, got {type(kept).__name__}")
    return kept


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def score_stores(
    folder: Path, model: Module, detectors: Mapping[str, Detector], belongs_to: str
) -> Callable[[Any], ScoreStore]:
    """
    :param folder: where all are
    :param model: the model that the detectors judge
    :param detectors: detectors by name, as they are before a fit; those whose settings cannot be
        told are not stored
    :param belongs_to: the model, the fit and what else scores depend on, as text
    :return: data set of images and labels -> the store of their scores
    """
    keys = {}
    for name, detector in detectors.items():
        with suppress(ValueError, RecursionError):
            keys[name] = described(detector, {id(model): "the model"})
    return lambda images: ScoreStore(
        folder / f"scores-{_hash(f'{data_digest(images)} {belongs_to}')}", keys
    )
