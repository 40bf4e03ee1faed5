"""
Sanity checks of an evaluation, after Carlini et al., *On Evaluating Adversarial Robustness*, 2019.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attacks.craft import round_to_8_bit
from .attacks import Square
from .search import Effort, Found, judged, strongest
from .system import System
from .target import Target

__all__ = ["Checks", "checked"]


@dataclass(frozen=True)
class Checks:
    """Shares of a few images that get through."""

    #: number of images
    images: int
    #: name of the attack that by itself gets most of them through, at the budget at which half get
    #: through by any; of those that know the system, where some do
    attack: str
    #: by itself at each budget, each from scratch: should grow
    by_budget: list[float]
    #: budget of the checks below: the one at which it gets half through, or nearest to it
    budget: float
    #: number of steps -> by itself with so many: should grow
    by_steps: dict[int, float]
    #: without a budget, all attacks with gradients: should be near 1
    unbounded: float
    #: random changes as large as the largest budget: should be near 0
    noise: float
    #: search without gradients by itself
    black_box: float
    #: attacks with gradients, all together: should be no less
    white_box: float

    @property
    def masked(self) -> bool:
        """Whether the search without gradients is stronger: the gradients then mislead."""
        return self.black_box > self.white_box


def checked(
    system: System,
    x: Tensor,
    y: Tensor,
    budgets: Sequence[float],
    effort: Effort,
    found: Found,
    tell: Callable[[str], object] = str,
) -> Checks | None:
    """
    :param system: what is attacked
    :param x: clean images, which the classifier gets right
    :param y: labels
    :param budgets: ascending
    :param effort: attacks
    :param found: what they found for these images, and others after them
    :param tell: told what goes on
    :return: the checks; ``None`` where no attack has gradients
    """
    gradient = {n: each for n, each in effort.attacks.items() if not isinstance(each, Square)}
    if not gradient:
        return None

    def target(epsilon: float) -> Target:
        return Target(system, x, y, torch.full((len(x), 1, 1, 1), epsilon).to(x))

    def alone(name: str, epsilon: float, steps: int) -> float:
        tell(f"check: {name}, {steps} steps at {epsilon * 255:g}/255")
        return _share(judged(target(epsilon), effort.attacks[name], steps)[0])

    level, few = found.level[: len(x)], len(x)
    reached = (budget for i, budget in enumerate(budgets) if _share(level <= i) >= 0.5)
    middle = next(reached, budgets[-1])
    knowing = [name for name, each in gradient.items() if each.knows_system]
    best = max(knowing or gradient, key=lambda name: alone(name, middle, effort.steps))
    by_budget = [alone(best, epsilon, effort.steps) for epsilon in budgets]
    at = min(range(len(budgets)), key=lambda i: abs(by_budget[i] - 0.5))
    fewer = sorted({max(1, effort.steps // 8), max(1, effort.steps // 3)} - {effort.steps})
    by_steps = {steps: alone(best, budgets[at], steps) for steps in fewer}
    tell("check: search without gradients")
    black = _share(judged(target(budgets[at]), Square(), effort.steps)[0])
    largest = target(budgets[-1])
    noise = round_to_8_bit(x + (2 * torch.rand(x.shape).to(x) - 1) * largest.epsilon)
    white = found.attack[:few] < len(gradient)
    through, epsilon = white & (level < len(budgets)), budgets[-1]
    tell("check: without a budget")
    # doubled, up to all that a pixel can change: what needs 20/255 is not found by steps that fit
    # 255/255
    while epsilon < 1:
        epsilon = min(1.0, 2 * epsilon)
        rest = (~through).nonzero().squeeze(1)
        through[rest] = strongest(target(epsilon)[rest], effort._replace(attacks=gradient))[0] >= 0
    return Checks(
        images=few,
        attack=best,
        by_budget=by_budget,
        budget=budgets[at],
        by_steps=by_steps | {effort.steps: by_budget[at]},
        unbounded=_share(through),
        noise=_share(largest.through(noise)),
        black_box=black,
        white_box=_share(white & (level <= at)),
    )


def _share(hits: Tensor) -> float:
    return float(hits.float().mean()) if len(hits) else 0.0
