"""
Images and labels to attack, checked.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...layer.checks import check_number
from ..attacks.craft import round_to_8_bit
from .attacks import FAMILIES

__all__ = ["check_attacks", "check_budgets", "check_images"]

# half of a step of 8 bit: nothing smaller survives the rounding
_LEAST = 1 / 255


def check_budgets(budgets: Sequence[float]) -> tuple[float, ...]:
    """
    :param budgets: largest changes of a pixel
    :return: them
    :raises TypeError: if one is not a number
    :raises ValueError: if there are none, they do not ascend, or one is out of range
    """
    given = tuple(check_number("budgets", budget, high=1.0) for budget in budgets)
    if not given or list(given) != sorted(set(given)):
        raise ValueError(f"budgets must ascend, each larger than the one before, got {budgets}.")
    if given[0] < _LEAST * (1 - 1e-6):
        raise ValueError(
            f"budgets must be at least 1/255, as changes are rounded to 8 bit, got {given[0]:g}."
        )
    return given


def check_attacks(attacks: Sequence[str]) -> tuple[str, ...]:
    """
    :param attacks: names of families
    :return: them in the order in which they are tried, and ``"pgd"``, which the price of a
        system is in terms of
    :raises TypeError: if they are no sequence of names
    :raises ValueError: if one is unknown
    """
    if isinstance(attacks, str):
        raise TypeError(f"attacks must be a sequence of names, got {attacks!r}.")
    if unknown := [name for name in attacks if name not in FAMILIES]:
        raise ValueError(f"attacks must be names among {list(FAMILIES)}, got {unknown}.")
    return tuple(name for name in FAMILIES if name in ("pgd", *attacks))


def check_images(images: Any, labels: Any) -> tuple[Tensor, Tensor | None]:
    """
    :param images: what was given as images
    :param labels: what was given as labels
    :return: images rounded to 8 bit, and labels
    :raises TypeError: if the images are no tensor of floats
    :raises ValueError: if shapes do not fit, or images leave [0, 1]
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a tensor of floats in [0, 1], got {got}.")
    if images.dim() != 4 or len(images) == 0:
        raise ValueError(
            f"images must have the shape (N, C, H, W) with N > 0, got {tuple(images.shape)}."
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images must be in [0, 1], got values from {low:g} to {high:g}. Put the "
            f"normalisation into the model, as attacks and rounding work on pixels."
        )
    if labels is None:
        return round_to_8_bit(images), None
    known = torch.as_tensor(labels)
    if known.shape != images.shape[:1] or known.is_floating_point():
        raise ValueError(
            f"labels must be one class for each of the {len(images)} images, got {known.dtype} of "
            f"shape {tuple(known.shape)}."
        )
    return round_to_8_bit(images), known.long()
