"""
ADV: attacks of the least L2 norm, which go no further than it takes.
"""

import torch
from torch import Tensor

from ...images.pixels import to_8_bit
from .classifier import Classifier, margin

__all__ = ["minimal"]

_STEPS = 12
# least step, as root mean square in grey levels: smaller ones are lost in rounding
_LEAST_STEP = 0.15
# the first step overshoots the linear prediction by so much, each further one by more
_OVERSHOOT, _GROWTH = 1.05, 1.1
# how much further than it takes some go, as share of the way
_FURTHER = 0.5


def minimal(classifier: Classifier, images: Tensor, answers: Tensor, seed: int) -> Tensor:
    """
    Newton steps to where the margin :math:`m` of the model's answer vanishes,

    .. math:: \\delta \\leftarrow \\delta - (1 + o)\\, m \\nabla m / \\|\\nabla m\\|^2,

    until the answer is another in 8 bit. Attacks differ in how far they go on from there: a
    random share of up to half of the way.

    :param classifier: the model that is attacked
    :param images: images in [0, 1]
    :param answers: the model's answers to them
    :param seed: seed of how far they go
    :return: attacked images, rounded to 8 bit; not all of them fool
    :see: Moosavi-Dezfooli et al., *DeepFool*, CVPR 2016
    """
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(len(images), generator=generator).to(images)
    further = 1 + _FURTHER * share.view(-1, *[1] * (images.dim() - 1))
    change = torch.zeros_like(images)
    todo = torch.arange(len(images), device=images.device)
    overshoot = _OVERSHOOT
    for _ in range(_STEPS):
        asked = answers[todo]
        place = (images[todo] + change[todo]).clamp(0, 1)
        gradient, margins = classifier.gradient(place, asked, margin)
        change[todo] -= _newton(gradient, margins, overshoot)
        fooled = classifier.fooled(images[todo] + change[todo], asked)
        todo = todo[~fooled]
        overshoot *= _GROWTH
        if not len(todo):
            break
    return to_8_bit(images + further * change)


def _newton(gradient: Tensor, margins: Tensor, overshoot: float) -> Tensor:
    """The step, in images."""
    flat = gradient.flatten(1)
    squared = flat.square().sum(dim=1).clamp_min(1e-20)
    length = overshoot * margins.clamp_min(0) / squared.sqrt()
    least = _LEAST_STEP / 255 * flat.shape[1] ** 0.5
    size = (length.clamp_min(least) / squared.sqrt()).view(-1, *[1] * (gradient.dim() - 1))
    return size * gradient
