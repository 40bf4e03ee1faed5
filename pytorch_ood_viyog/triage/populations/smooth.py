"""
ADV: attacks whose perturbation is blurred, so that it leaves the finest detail alone.
"""

import torch
from torch import Tensor

from ...images.filters import gaussian_blur
from ...images.pixels import to_8_bit
from .bounded import drawn_budgets
from .classifier import Classifier, cross_entropy

__all__ = ["smooth"]

_STEPS = 6
# standard deviations of the blur in pixels, and least budget in grey levels: smaller ones hardly
# ever fool
_RADII = (0.7, 1.0, 1.5, 2.0)
_LEAST = 3.0


def smooth(classifier: Classifier, images: Tensor, answers: Tensor, seed: int) -> Tensor:
    """
    Steps along the blurred gradient of the cross-entropy, scaled so that the largest change of a
    pixel is the budget; each image has a radius of its own.

    :param classifier: the model that is attacked
    :param images: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param answers: the model's answers to them
    :param seed: seed of the budgets
    :return: attacked images, rounded to 8 bit; not all of them fool
    """
    generator = torch.Generator().manual_seed(seed)
    eps = drawn_budgets(images, generator, _LEAST)
    change = torch.zeros_like(images)

    for _ in range(_STEPS):
        place = (images + change).clamp(0, 1)
        gradient, _ = classifier.gradient(place, answers, cross_entropy)
        change = _to_budget(change + 2 / _STEPS * _to_budget(_blurred(gradient), eps), eps)
    return to_8_bit(images + change)


def _blurred(gradient: Tensor) -> Tensor:
    blurred = gradient.clone()
    for number, radius in enumerate(_RADII):
        part = gradient[number :: len(_RADII)]
        if len(part):
            # of the sign of a blurred gradient: every region of the image takes part
            signs = gaussian_blur(part, radius).sign()
            blurred[number :: len(_RADII)] = gaussian_blur(signs, radius)
    return blurred


def _to_budget(change: Tensor, eps: Tensor) -> Tensor:
    """Scaled so that the largest change is the budget."""
    largest = change.abs().flatten(1).amax(dim=1).clamp_min(1e-20)
    return change * (eps / largest.view(-1, *[1] * (change.dim() - 1)))
