"""
From a reading to evidence of intent, by what was fitted.
"""

import torch
from torch import Tensor

from ...layer.linear.constant_windows import if_any
from ..evidence import log_sigmoid, reader_of
from ..reader import Reading
from .ratio import IntentRatio
from .simulation import UnitRange
from .whiteness import whiteness

__all__ = ["four_ways", "intent_features", "intent_score", "joined", "units_of"]


def intent_features(reading: Reading, state: dict[str, Tensor]) -> Tensor:
    """
    :param reading: what was read at the layer
    :param state: fitted state
    :return: features of the noise floor, then of its whiteness, :math:`B \\times F`
    """
    local, around = reading.at_windows()
    white = whiteness(local, around, len(reader_of(state).window), if_any(reading.flat))
    return torch.cat([reading.features, white], dim=1)


def intent_score(reading: Reading, state: dict[str, Tensor]) -> Tensor:
    """
    :param reading: what was read at the layer
    :param state: fitted state
    :return: likelihood ratio of an attack and a benign change, in units of its standard deviation,
        shape :math:`B`
    """
    ratio = IntentRatio(**{name: state[name] for name in IntentRatio.__dataclass_fields__})
    return ratio(intent_features(reading, state))


def four_ways(three: Tensor, scores: Tensor, state: dict[str, Tensor]) -> Tensor:
    """
    :param three: log-likelihoods of ID, OOD and a residue, :math:`B \\times 3`
    :param scores: those of intent, shape :math:`B`
    :param state: fitted state
    :return: log-likelihoods of ID, OOD, ADV and NOISY, :math:`B \\times 4`; the residue is shared
        between the last two
    """
    ratio = scores * state["unit"]
    both = torch.stack([ratio, -ratio], dim=1)
    residue = three[:, 2:] + log_sigmoid(both)
    return torch.cat([three[:, :2], residue], dim=1)


def joined(score: Tensor, intent: Tensor, state: dict[str, Tensor]) -> Tensor:
    """
    Two readings one after the other: is there a residue, and is it shaped as an attack's? A score
    that speaks for a residue is lowered by as much as its intent is below what attack-shaped
    residues nearly always exceed, but not beneath even odds less that much: what scores lower has
    no residue to judge.

    .. math::
        s - \\min(d,\\ \\max(0,\\ s - s_0 + d)), \\qquad d = \\max(0,\\ r_0 - r)

    :param score: :math:`s`, shape :math:`B`
    :param intent: :math:`r`, shape :math:`B`
    :param state: fitted state, with :math:`r_0` and the score :math:`s_0` of even odds
    :return: scores of shape :math:`B`
    """
    short = (state["least_intent"] - intent).clamp_min(0)
    even = -state["centre"] / state["spread"]
    return score - torch.minimum(short, (score - even + short).clamp_min(0))


def units_of(state: dict[str, Tensor]) -> UnitRange:
    """
    :param state: fitted state
    :return: range of the layer's inputs
    """
    return UnitRange(state["low"], state["scale"])
