"""
Scores on disk as they come, so that a run that was killed goes on where it stopped.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module

from ..attacks.cache import DAMAGED
from ..attacks.keys import data_digest, described

__all__ = ["ScoreStore", "score_stores"]


class ScoreStore:
    """
    Scores of the batches of some images: a file a batch, in which each detector has its own
    entry. Failures are not stored.
    """

    def __init__(self, folder: Path, keys: Mapping[str, str]):
        """
        :param folder: where to, of these images and this model; created if it does not exist
        :param keys: detector -> text that stands for it, its settings and its fit; those that
            are missing are not stored
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._entries = {
            name: hashlib.sha256(key.encode()).hexdigest()[:16] for name, key in keys.items()
        }

    def complete(self, detectors: Sequence[str]) -> int:
        """
        :param detectors: names of detectors
        :return: how many of the first batches have scores of all of them
        """
        number = 0
        while detectors and set(detectors) <= self.read(number).keys():
            number += 1
        return number

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
        if not new:
            return
        file = self._file(number)
        partial = file.with_suffix(f".partial-{os.getpid()}")
        torch.save(self._held(number) | new, partial)
        os.replace(partial, file)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.pt"

    def _held(self, number: int) -> dict[str, Tensor]:
        file = self._file(number)
        if not file.exists():
            return {}
        try:
            found = torch.load(file, weights_only=True)
            if not isinstance(found, dict):
                raise TypeError(f"expected a dictionary, got {type(found).__name__}")
        except DAMAGED as error:
            warnings.warn(f"{file} is damaged and computed again: {error}", stacklevel=2)
            return {}
        return found


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

    def store(images: Any) -> ScoreStore:
        text = f"{data_digest(images)} {belongs_to}"
        return ScoreStore(
            folder / f"scores-{hashlib.sha256(text.encode()).hexdigest()[:16]}", keys
        )

    return store
