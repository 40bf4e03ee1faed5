"""
The evidence behind a verdict: numbers that one forward pass gives, those of a second look, and
the log-odds that follow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...detectors.residue import ViyogResidue
from ...images.pixel_range import PixelRange
from ...images.views import bilateral, mirrored, moved
from ...layer.layer_call import LayerCall
from ...looks.answers import lost_odds, softmax_distance
from ...looks.logits import Answers
from ...pipeline.shared_forward import SharedForward
from ...residue.intent.evidence import intent_features
from .rule import SHAPES, Learnt

__all__ = [
    "ANSWER",
    "FLAT",
    "LOOKS",
    "FirstPass",
    "Reader",
    "Reading",
    "answer_numbers",
    "read",
    "read_first",
    "residue_shape",
    "second_look",
]

#: what is read of the answer itself
ANSWER = ("margin", "entropy", "feature norm")

#: share of the windows that are constant, which the residue is not read from
FLAT = "flat share"

#: how images are seen when the model is asked again
LOOKS = {"bilateral": bilateral, "moved": moved, "mirrored": mirrored}


class Reader(Protocol):
    """What reads evidence: a Triage."""

    pipeline: SharedForward
    residue: ViyogResidue
    answers: Answers


@dataclass(frozen=True)
class FirstPass:
    """What one forward pass of :math:`B` samples tells."""

    #: name -> number of shape :math:`B`, float64
    numbers: dict[str, Tensor]
    #: features of the residue and of its whiteness, :math:`B \\times F`
    shape: Tensor
    #: the answers, :math:`B \\times C`
    logits: Tensor


def read_first(reader: Reader, x: Tensor) -> FirstPass:
    """
    :param reader: fitted detectors
    :param x: batch of model inputs
    :return: the detectors' scores, :data:`FLAT`, :data:`ANSWER`, and features of the residue
    """
    found: list[tuple[Tensor, Tensor]] = []

    def read(call: LayerCall) -> None:
        found.append(residue_shape(reader.residue, call, reader.residue._require_state()))

    scores, seen = reader.pipeline.run(x, ("logits", "features"), read)
    assert seen.logits is not None, "logits were asked for"
    assert seen.features is not None, "features were asked for"
    shape, flat = found[0]
    numbers = scores | {FLAT: flat} | answer_numbers(seen.logits, seen.features)
    return FirstPass({name: v.double() for name, v in numbers.items()}, shape, seen.logits)


def residue_shape(
    residue: ViyogResidue, call: LayerCall, state: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """
    :param residue: detector whose features are read
    :param call: the moment that its layer runs
    :param state: what its fit found
    :return: features of the residue and of its whiteness, :math:`B \\times F`, and the share of
        constant windows, shape :math:`B`; of several rows of a sample, those of the row with the
        largest score, and the largest share
    """
    reading = residue._read_call(call, state)
    shape = call.of_largest(
        intent_features(reading, state), lambda: residue._score_reading(reading, state)
    )
    return shape, call.largest(reading.flat.flatten(1).double().mean(dim=1))


def answer_numbers(logits: Tensor, features: Tensor) -> dict[str, Tensor]:
    """
    :param logits: :math:`B \\times C`
    :param features: input of the classification head, :math:`B \\times D`
    :return: distance of the two largest logits, entropy of the softmax, norm of the features
    """
    exact = logits.double()
    largest = exact.topk(2, dim=1).values
    logs = exact.log_softmax(dim=1)
    values = (
        largest[:, 0] - largest[:, 1],
        -(logs.exp() * logs).sum(dim=1),
        features.double().square().sum(dim=1).sqrt(),
    )
    return dict(zip(ANSWER, values, strict=True))


def second_look(
    ask: Callable[[Tensor], Tensor], pixels: PixelRange, x: Tensor, logits: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """
    :param ask: gives the model's logits
    :param pixels: black and white of its inputs
    :param x: batch of model inputs
    :param logits: the first answers
    :return: for each of :data:`LOOKS` the distance of both answers, the log-odds and the
        log-sum-exp that the first lost; and the second answers of the first look
    """
    images = pixels.images(x).clamp(0, 1)
    numbers, first, second = {}, logits.double(), []
    for name, look in LOOKS.items():
        again = ask(pixels.inputs(look(images), x)).double()
        numbers[f"{name} distance"] = softmax_distance(first, again)
        numbers[f"{name} lost odds"] = lost_odds(first, again)
        numbers[f"{name} lost energy"] = first.logsumexp(dim=1) - again.logsumexp(dim=1)
        second.append(again)
    return numbers, second[0]


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
    first = read_first(reader, x)
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
