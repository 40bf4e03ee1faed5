"""
From a reading to evidence of intent, by what was fitted.
"""

import torch
from torch import Tensor

from ...layer.linear.constant_windows import if_any
from ..evidence import reader_of
from ..reader import Reading
from .ratio import IntentRatio
from .whiteness import whiteness

__all__ = ["intent_features", "intent_score", "joined"]


def intent_features(reading: Reading, state: dict[str, Tensor]) -> Tensor:
    """:return: features of the noise floor, then of its whiteness, :math:`B \\times F`"""
    local, around = reading.at_windows()
    white = whiteness(local, around, len(reader_of(state).window), if_any(reading.flat))
    return torch.cat([reading.features, white], dim=1)


def intent_score(reading: Reading, state: dict[str, Tensor]) -> Tensor:
    """:return: likelihood ratio of attack and benign change, in standard deviations, :math:`B`"""
    ratio = IntentRatio(**{name: state[name] for name in IntentRatio.__dataclass_fields__})
    return ratio(intent_features(reading, state))


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
