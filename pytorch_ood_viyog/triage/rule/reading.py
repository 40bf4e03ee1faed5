"""
From a batch to log-odds: the first pass, who is asked again, the second look.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...images.pixel_range import PixelRange
from .evidence import read_first, second_look
from .learning import SHAPES, Learnt
from .reader import Reader

__all__ = ["Reading", "read"]


@dataclass(frozen=True)
class Reading:
    """What a batch of :math:`B` samples tells."""

    #: log-odds of ID, OOD, ADV and NOISY, :math:`B \\times 4`
    z: Tensor
    #: evidence -> number of shape :math:`B`; NaN where the model was not asked again
    numbers: dict[str, Tensor]
    #: whether the model was asked again, shape :math:`B`
    asked: Tensor
    #: the first answers, :math:`B \\times C`
    logits: Tensor
    #: class of the second answer, -1 where it was not asked for, shape :math:`B`
    second: Tensor


def read(reader: Reader, rule: Learnt, look: str, pixels: PixelRange, x: Tensor) -> Reading:
    """
    :param reader: fitted detectors
    :param rule: what evidence says
    :param look: when the model is asked again
    :param pixels: black and white of the inputs
    :param x: batch of model inputs on the model's device
    :return: what they tell
    """
    first = read_first(reader.pipeline, reader.residue, x)
    readings = rule.shape(first.shape)
    numbers = first.numbers | dict(zip(SHAPES, readings.unbind(dim=1), strict=True))
    z = rule.first(numbers)
    asked = rule.asked(z, look)
    second = torch.full((len(x),), -1, device=z.device)
    if rule.full is not None and bool(asked.any()):
        chosen = asked.nonzero()[:, 0]
        found, again = second_look(reader.answers.logits, pixels, x[chosen], first.logits[chosen])
        known = {name: values[chosen] for name, values in numbers.items()} | found
        z = z.index_copy(0, chosen, rule.full(known))
        second[chosen] = again.argmax(dim=1)
        unknown = torch.full_like(z[:, 0], torch.nan)
        numbers |= {name: unknown.index_copy(0, chosen, v.to(z)) for name, v in found.items()}
    return Reading(z, numbers, asked, first.logits, second)
