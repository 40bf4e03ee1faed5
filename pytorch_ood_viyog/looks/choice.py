"""
Which purifier takes the residue out, and how strongly: chosen from ID data alone.
"""

import importlib.util
import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..images.purifiers import IMAGE_PURIFIERS
from ..layer.batches import at_once
from ..layer.manners import warn_user
from .answers import softmax_distance
from .purification import Purification, Purifier

__all__ = ["STRENGTHS", "Choice", "chosen"]

#: strengths that are tried, strongest first; the residue of an attack that may use 8/255 at every
#: pixel has a standard deviation of 3 to 6/255
STRENGTHS = tuple(levels / 255 for levels in (6, 4, 3, 2))
# those that "auto" tries, in this order
_AUTO = ("nlm", "jpeg", "maps")
# softmax distance beyond which an answer has clearly changed: half of the probability has moved
_CLEARLY = 1.0


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what it costs."""

    #: how the residue is taken out
    purifier: Purifier
    #: strength for a noise floor of zero
    strength: float
    #: share of ID answers that changed clearly, the mean of without and with noise
    flips: float


def chosen(
    purification: Purification,
    purifier: Purifier,
    strength: float | None,
    clean: Tensor,
    noisy: Tensor,
    max_flips: float,
) -> Choice:
    """
    Choose a purifier and its strength from ID data alone: the strongest of which at most
    ``max_flips`` of the answers to ID samples change clearly, half of them with simulated noise.
    An answer changes clearly where it is another class and the softmax distance is above 1.

    Weak purifiers leave the attacks' answers as they are. Too strong ones move the answers to ID
    samples about as far as those to attacks, and nothing can be told from that any more. Small
    moves of uncertain answers do no harm: they are known for ID data, see
    :func:`~pytorch_ood_viyog.looks.comparison.least_overruling`.

    :param purification: how the model is asked
    :param purifier: a name, a function, or ``"auto"`` for the first of ``"nlm"``, ``"jpeg"`` and
        ``"maps"`` that ID answers survive
    :param strength: the only strength to try; ``None`` for the choice among several
    :param clean: ID inputs
    :param noisy: the same with simulated noise that answers must survive
    :param max_flips: share of answers that may change clearly
    :return: the choice; warns if more answers change, whatever is tried
    """
    samples = [(x, *_first(purification, x)) for x in (clean, noisy)]
    tried: list[Choice] = []
    for name in _named(purifier, clean):
        strengths = STRENGTHS if strength is None else (strength,)
        if strength is None and (not isinstance(name, str) or name == "median"):
            strengths = STRENGTHS[-1:]  # it has none of its own
        for level in strengths:
            flips = _flips(purification, samples, name, level, max_flips)
            tried.append(Choice(name, level, flips))
            if flips <= max_flips:
                return tried[-1]
    for i, each in enumerate(tried):  # not all of their answers were asked for
        all_of_them = purification, samples, each.purifier, each.strength, math.inf
        tried[i] = replace(each, flips=_flips(*all_of_them))
    least = min(tried, key=lambda choice: choice.flips)
    warn_user(
        f"{least.flips:.1%} of the ID answers change clearly with purifier {least.purifier!r} at "
        f"strength {least.strength * 255:.3g}/255, more than max_flips={max_flips:.1%}, and no "
        f"other that was tried changes fewer. The second answer is less reliable by that.",
    )
    return least


def _first(purification: Purification, x: Tensor) -> tuple[Tensor, Tensor]:
    found = [purification.first(part) for part in torch.split(x, at_once(x))]
    logits, floors = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(floors)


def _flips(
    purification: Purification,
    samples: list[tuple[Tensor, Tensor, Tensor]],
    purifier: Purifier,
    strength: float,
    enough: float,
) -> float:
    """Share of the answers that change clearly; no more than it takes to exceed ``enough``."""
    count, total = 0, sum(len(x) for x, _, _ in samples)
    parts = [
        zip(*(torch.split(each, at_once(sample[0])) for each in sample), strict=True)
        for sample in samples
    ]
    for x, first, floors in itertools.chain(*parts):
        second, _ = purification.second(x, floors, purifier, strength)
        changed = second.argmax(dim=1) != first.argmax(dim=1)
        count += int((changed & (softmax_distance(first, second) > _CLEARLY)).sum())
        if count / total > enough:
            break
    return count / total


def _named(purifier: Purifier, x: Tensor) -> tuple[Purifier, ...]:
    if not isinstance(purifier, str) or purifier != "auto":
        return (purifier,)
    if x.dim() != 4:
        return ("maps",)
    libraries = {n: IMAGE_PURIFIERS[n].library for n in _AUTO if n in IMAGE_PURIFIERS}
    missing = [n for n, lib in libraries.items() if lib and importlib.util.find_spec(lib) is None]
    if missing:
        warn_user(
            f"The purifiers {missing} are not tried: their libraries are not installed "
            f"(pip install 'pytorch-ood-viyog[purify]').",
        )
    return tuple(name for name in _AUTO if name not in missing)
