"""
What an attack aims at: images, budgets, and what counts as getting through.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..systems.system import Look, System

__all__ = ["Attempt", "Target"]

# images that a system is asked about at once
_CHUNK = 100


@dataclass(frozen=True)
class Attempt:
    """What came of candidates, with gradients where they ask for them; each of shape (B,)."""

    #: logit of the label minus the largest other one: negative where the classifier is wrong
    margin: Tensor
    #: how close to an alarm, see :class:`~pytorch_ood_viyog.benchmark.evasion.systems.system.Look`
    pressure: Tensor
    #: whether the classifier is wrong and no alarm is raised, for at least half of the draws
    through: Tensor


@dataclass(frozen=True)
class Target:
    """
    :param system: what is attacked
    :param x: clean images (B, C, H, W) in [0, 1], multiples of 1/255
    :param y: labels (B,)
    :param epsilon: largest change of a pixel for each image, shape (B, 1, 1, 1)
    :param draws: how often a system with random parts is asked about the same image
    """

    system: System
    x: Tensor
    y: Tensor
    epsilon: Tensor
    draws: int = 1

    def __getitem__(self, index: Tensor) -> "Target":
        """:return: the target of some of the images"""
        return Target(self.system, self.x[index], self.y[index], self.epsilon[index], self.draws)

    def attempt(self, candidates: Tensor, index: Tensor) -> Attempt:
        """
        :param candidates: images to try
        :param index: which of the target's images they are of
        :return: what comes of them; over the draws of a random system, the mean of margins and
            pressures, and so of their gradients
        """
        y = self.y[index]
        attempts = [_attempt(self.system.look(candidates), y) for _ in range(self.draws)]
        if self.draws == 1:
            return attempts[0]
        return Attempt(
            torch.stack([each.margin for each in attempts]).mean(dim=0),
            torch.stack([each.pressure for each in attempts]).mean(dim=0),
            torch.stack([each.through for each in attempts]).float().mean(dim=0) >= 0.5,
        )

    @torch.no_grad()
    def through(self, candidates: Tensor, index: Tensor) -> Tensor:
        """
        :param candidates: images to judge
        :param index: which of the target's images they are of
        :return: whether they get through, by the system's public methods, shape (B,)
        """
        parts = zip(
            torch.split(candidates, _CHUNK), torch.split(self.y[index], _CHUNK), strict=True
        )
        return torch.cat([self._judged(part, y) for part, y in parts])

    def _judged(self, candidates: Tensor, y: Tensor) -> Tensor:
        draws = []
        for _ in range(self.draws):
            wrong = self.system.answers(candidates).argmax(dim=1) != y
            draws.append(wrong & self.system.passes(candidates))
            torch.rand(1)  # systems leave the random state as found: without this, no new draw
        return torch.stack(draws).float().mean(dim=0) >= 0.5


def _attempt(look: Look, y: Tensor) -> Attempt:
    own = look.logits.gather(1, y[:, None]).squeeze(1)
    margin = own - look.logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
    torch.rand(1)  # as above
    return Attempt(margin, look.pressure, (margin < 0) & ~look.alarm)
