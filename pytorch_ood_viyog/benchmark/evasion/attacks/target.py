"""
What an attack aims at: images, budgets, and what counts as getting through.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..systems.system import System

__all__ = ["Attempt", "Target", "margins"]

# images that a system is asked about at once
_CHUNK = 100


@dataclass(frozen=True)
class Attempt:
    """What came of candidates, with gradients where they ask for them; each of shape (B,)."""

    #: logit of the label minus the largest other one: negative where the classifier is wrong
    margin: Tensor
    #: how close to an alarm, see
    #: :class:`~pytorch_ood_viyog.benchmark.evasion.systems.system.Watch`
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
        attempts = [self._drawn(candidates, self.y[index]) for _ in range(self.draws)]
        if self.draws == 1:
            return attempts[0]
        return Attempt(
            torch.stack([each.margin for each in attempts]).mean(dim=0),
            torch.stack([each.pressure for each in attempts]).mean(dim=0),
            torch.stack([each.through for each in attempts]).float().mean(dim=0) >= 0.5,
        )

    def _drawn(self, candidates: Tensor, y: Tensor) -> Attempt:
        logits, seen = self.system.look(candidates)
        margin = margins(logits, y)
        _next_draw()
        return Attempt(margin, seen.pressure, (margin < 0) & ~seen.alarm)

    def attempt_in_turn(self, candidates: Tensor, index: Tensor, gradients: bool) -> Attempt:
        """
        As :meth:`attempt`, but the system is asked only where the classifier is wrong: elsewhere
        the pressure is 0, and the detector's work is saved.

        :param candidates: images to try
        :param index: which of the target's images they are of
        :param gradients: whether those of the pressure are asked for
        :return: what comes of them
        """
        if self.draws > 1:
            return self.attempt(candidates, index)
        margin = margins(self.system.classify(candidates), self.y[index])
        wrong = margin.detach() < 0
        place = wrong.nonzero().squeeze(1)
        pressure, through = torch.zeros_like(margin.detach()), wrong.clone()
        if len(place):
            with torch.set_grad_enabled(gradients):
                asked = candidates[place]
                seen = self.system.watch(asked if gradients else asked.detach())
            pressure = pressure.index_put((place,), seen.pressure)
            through[place] = ~seen.alarm
        return Attempt(margin, pressure, through)

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
            wrong = self.system.classify(candidates).argmax(dim=1) != y
            draws.append(wrong & self.system.passes(candidates))
            _next_draw()
        return torch.stack(draws).float().mean(dim=0) >= 0.5


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """
    :param logits: (B, C)
    :param y: labels (B,)
    :return: logit of the label minus the largest other one, shape (B,)
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)


def _next_draw() -> None:
    torch.rand(1)  # systems leave the random state as found: without this, no new draw
