"""
The smallest budget at which any attack gets through, for each image.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .attacks import Attack
from .system import System
from .target import Target

__all__ = ["Effort", "Found", "judged", "smallest_budgets", "strongest"]

# rounding of pixel values
_SLACK = 1e-4


class Effort(NamedTuple):
    """How hard is tried."""

    #: attacks by name, in the order in which they are tried
    attacks: Mapping[str, Attack]
    #: gradient steps of each
    steps: int
    #: runs of each; the first starts from the clean image
    restarts: int = 1


class Found(NamedTuple):
    """What gets through, for each of :math:`B` images."""

    #: index of the smallest budget at which an image gets through; the number of budgets where it
    #: does at none
    level: Tensor
    #: index of the attack that did it, -1 where none did
    attack: Tensor
    #: what got through, the clean image where nothing did, (B, C, H, W)
    x: Tensor


def smallest_budgets(
    system: System,
    x: Tensor,
    y: Tensor,
    budgets: Sequence[float],
    effort: Effort,
    tell: Callable[[str], object] = str,
) -> Found:
    """
    Bisection, for each image: what gets through at a budget does so at all larger ones, what no
    attack brings through is tried with more. Each image is thus attacked at a third of the
    budgets, the one below its answer always among them.

    :param system: what is attacked
    :param x: clean images, which the classifier gets right
    :param y: labels
    :param budgets: ascending
    :param effort: attacks
    :param tell: told what goes on
    :return: what was found
    """
    limits = torch.tensor(budgets, device=x.device, dtype=x.dtype)
    failed = torch.full_like(y, -1)
    found = Found(torch.full_like(y, len(budgets)), torch.full_like(y, -1), x.clone())
    while bool((open_ := found.level - failed > 1).any()):
        index = open_.nonzero().squeeze(1)
        middle = (failed[index] + found.level[index]) // 2
        target = Target(system, x[index], y[index], limits[middle].view(-1, 1, 1, 1))
        attack, candidates = strongest(target, effort, tell)
        through = attack >= 0
        failed[index[~through]] = middle[~through]
        place = index[through]
        found.x[place], found.attack[place] = candidates[through], attack[through]
        change = (candidates - x[index])[through].abs().amax(dim=(1, 2, 3))
        found.level[place] = torch.searchsorted(limits, change - _SLACK * limits[0])
        failed[place] = torch.minimum(failed[place], found.level[place] - 1)
    return found


def strongest(
    target: Target, effort: Effort, tell: Callable[[str], object] = str
) -> tuple[Tensor, Tensor]:
    """
    Try attack after attack on the images that none has brought through yet.

    :param target: images and their budgets
    :param effort: attacks
    :param tell: told what goes on
    :return: index of the attack that got an image through, -1 where none did, and the images
    """
    attack, images = torch.full_like(target.y, -1), target.x.clone()
    for number, (name, each) in enumerate(effort.attacks.items()):
        for run in range(effort.restarts):
            index = (attack < 0).nonzero().squeeze(1)
            if len(index) == 0:
                return attack, images
            tell(f"{name}, {len(index)} images")
            got, candidates = judged(target[index], each, effort.steps, run > 0)
            attack[index[got]] = number
            images[index[got]] = candidates[got]
    return attack, images


def judged(
    target: Target, attack: Attack, steps: int, random_start: bool = False
) -> tuple[Tensor, Tensor]:
    """
    :param target: images and their budgets
    :param attack: one attack
    :param steps: gradient steps
    :param random_start: start from random changes and not from the clean images
    :return: which images get through, judged by the system's public methods, and the images
    """
    candidates, promising = attack.run(target, steps, random_start)
    index = promising.nonzero().squeeze(1)
    got = torch.zeros_like(promising)
    if len(index):
        got[index] = target[index].through(candidates[index])
    return got, candidates
