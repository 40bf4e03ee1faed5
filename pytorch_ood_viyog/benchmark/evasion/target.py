"""
What an attack aims at: images, budgets, and what counts as getting through.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .system import System

__all__ = ["Attempt", "Target"]

# images that a system is asked about at once
_CHUNK = 100


class Attempt(NamedTuple):
    """What came of candidates, with gradients where they ask for them; each of shape (B,)."""

    #: logit of the label minus the largest other one: negative where the classifier is wrong
    margin: Tensor
    #: how close to an alarm, see :class:`~pytorch_ood_viyog.benchmark.evasion.system.Watch`
    pressure: Tensor
    #: whether the classifier is wrong and no alarm is raised, for at least half of the draws
    through: Tensor


@dataclass(frozen=True)
class Target:
    """
    :param system: what is attacked; one with random parts is asked several times
    :param x: clean images (B, C, H, W) in [0, 1], multiples of 1/255
    :param y: labels (B,)
    :param epsilon: largest change of a pixel for each image, shape (B, 1, 1, 1)
    """

    system: System
    x: Tensor
    y: Tensor
    epsilon: Tensor

    def __getitem__(self, index: Tensor) -> "Target":
        """:return: the target of some of the images"""
        return Target(self.system, self.x[index], self.y[index], self.epsilon[index])

    def attempt(
        self, candidates: Tensor, *, everywhere: bool = True, gradients: bool = True
    ) -> Attempt:
        """
        :param candidates: a changed image for each of the target's
        :param everywhere: ask the system also where the classifier is right; otherwise the
            pressure is 0 there, and the detector's work is saved
        :param gradients: whether those of the pressure are asked for
        :return: what comes of them; over the draws of a random system, the mean of margins and
            pressures, and so of their gradients
        """
        drawn = [self._drawn(candidates, everywhere, gradients) for _ in range(self.system.draws)]
        if len(drawn) == 1:
            return drawn[0]
        margin, pressure, through = map(torch.stack, zip(*drawn, strict=True))
        return Attempt(margin.mean(dim=0), pressure.mean(dim=0), through.float().mean(0) >= 0.5)

    def _drawn(self, candidates: Tensor, everywhere: bool, gradients: bool) -> Attempt:
        margin = _margins(self.system.classify(candidates), self.y)
        wrong = margin.detach() < 0
        asked = (wrong | everywhere).nonzero().squeeze(1)
        pressure, through = torch.zeros_like(margin.detach()), torch.zeros_like(wrong)
        if len(asked):
            with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
                seen = self.system.watch(candidates[asked])
            pressure = pressure.index_put((asked,), seen.pressure)
            through[asked] = wrong[asked] & ~seen.alarm
        _next_draw()
        return Attempt(margin, pressure, through)

    @torch.no_grad()
    def through(self, candidates: Tensor) -> Tensor:
        """
        :param candidates: a changed image for each of the target's
        :return: whether they get through, by the system's public methods, shape (B,)
        """
        parts = zip(torch.split(candidates, _CHUNK), torch.split(self.y, _CHUNK), strict=True)
        return torch.cat([self._judged(part, y) for part, y in parts])

    def _judged(self, candidates: Tensor, y: Tensor) -> Tensor:
        draws = []
        for _ in range(self.system.draws):
            wrong = self.system.classify(candidates).argmax(dim=1) != y
            draws.append(wrong & self.system.passes(candidates))
            _next_draw()
        return torch.stack(draws).float().mean(dim=0) >= 0.5


def _margins(logits: Tensor, y: Tensor) -> Tensor:
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)


def _next_draw() -> None:
    torch.rand(1)  # systems leave the random state as found: without this, no new draw
