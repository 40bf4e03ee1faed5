"""
ADV: attacks that move every pixel by up to a budget, in one step or several.
"""

import torch
from torch import Tensor

from ...images.pixels import to_8_bit
from .classifier import Classifier, cross_entropy

__all__ = ["bounded", "drawn_budgets"]

# budgets in grey levels, drawn evenly on a logarithmic scale
_LEAST, _MOST = 1.0, 16.0


def drawn_budgets(images: Tensor, generator: torch.Generator, least: float = _LEAST) -> Tensor:
    """
    :param images: images
    :param generator: source of randomness
    :param least: least budget in grey levels
    :return: a budget for each image as a fraction of the range, to broadcast with images
    """
    share = torch.rand(len(images), generator=generator).to(images)
    budgets = least * (_MOST / least) ** share / 255
    return budgets.view(-1, *[1] * (images.dim() - 1))


def bounded(
    classifier: Classifier, images: Tensor, answers: Tensor, steps: int, seed: int
) -> Tensor:
    """
    Steps along the sign of the gradient of the cross-entropy, of 2.5 / steps of the budget each
    and never beyond it; several steps begin at a random place within the budget.

    :param classifier: the model that is attacked
    :param images: images in [0, 1]
    :param answers: the model's answers to them
    :param steps: number of steps; 1 is one step of the whole budget
    :param seed: seed of budgets and of random starts
    :return: attacked images, rounded to 8 bit; not all of them fool
    """
    generator = torch.Generator().manual_seed(seed)
    eps = drawn_budgets(images, generator)
    change = torch.zeros_like(images)
    if steps > 1:
        start = 2 * torch.rand(images.shape, generator=generator) - 1
        change = start.to(images) * eps
    width = 1.0 if steps == 1 else 2.5 / steps

    for _ in range(steps):
        place = (images + change).clamp(0, 1)
        gradient, _ = classifier.gradient(place, answers, cross_entropy)
        change = (change + width * eps * gradient.sign()).clamp(-eps, eps)
    return to_8_bit(images + change)
