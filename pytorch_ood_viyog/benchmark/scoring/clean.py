"""
How often a model is right on the clean images: where it is not, no attack on it means anything.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from tqdm import tqdm

from ...layer.manners import as_found, device_of, warn_user
from ..attacks.logits import checked_logits

__all__ = ["CleanAccuracy", "clean_accuracy"]

_SHIFTS = (-1, 1)


@dataclass(frozen=True)
class CleanAccuracy:
    """
    :param predicted: classes that the model gives (N,)
    :param labels: the true ones (N,)
    :param classes: number of logits
    """

    predicted: Tensor
    labels: Tensor
    classes: int

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly."""
        return float((self.predicted == self.labels).double().mean())

    @property
    def near_chance(self) -> bool:
        """Whether it is within three deviations of guessing, or a tenth of the way to 1."""
        chance = 1 / self.classes
        guessing = 3 * math.sqrt(chance * (1 - chance) / len(self.labels))
        return self.accuracy < chance + max((1 - chance) / 10, min(guessing, (1 - chance) / 2))

    def check(self, attacked: int | None, min_images: int) -> None:
        """Warn near chance; refuse to attack the first images where too few of them are right."""
        told = (
            f"The model classifies {self.accuracy:.1%} of the {len(self.labels)} id_test images "
            f"correctly, where chance is {1 / self.classes:.1%}"
        )
        hint = f". {self._hint()}" if self.near_chance else "."
        left = int((self.predicted == self.labels)[:attacked].sum())
        if attacked is not None and left < min_images:
            raise ValueError(
                f"{told}, which leaves {left} of the first {attacked} to attack, too few to say "
                f"anything ({min_images=}){hint}"
            )
        if self.near_chance:
            warn_user(told + hint)

    def _hint(self) -> str:
        for shift in _SHIFTS:
            share = float((self.predicted == self.labels + shift).double().mean())
            if share > max(2 * self.accuracy, 2 / self.classes):
                return (
                    f"With {shift:+d} on the labels it would be {share:.1%}: are they numbered "
                    f"as the model's classes are?"
                )
        outside = int(((self.labels < 0) | (self.labels >= self.classes)).sum())
        if outside:
            return f"{outside} labels are none of its {self.classes} classes."
        return "Are the labels numbered, and the images normalised, as in the model's training?"


def clean_accuracy(model: Module, loader: Iterable[Any], progress: bool) -> CleanAccuracy:
    """:return: what a classifier makes of images and class numbers, in evaluation mode"""
    predicted, labels, classes = [], [], 0
    with as_found(model):
        for x, y in tqdm(loader, desc="clean accuracy", leave=False, disable=not progress):
            logits = checked_logits(model, x.to(device_of(model)))
            predicted.append(logits.argmax(1).cpu())
            labels.append(y.cpu())
            classes = logits.shape[1]
    return CleanAccuracy(torch.cat(predicted), torch.cat(labels), classes)
