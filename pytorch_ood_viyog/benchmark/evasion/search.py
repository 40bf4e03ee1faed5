"""
The smallest budget at which any attack gets through, for each image; and sanity checks of that,
after Carlini et al., *On Evaluating Adversarial Robustness*, 2019.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..attacks.images import round_to_8_bit
from .attacks import Attack, Square, Target
from .system import System

__all__ = [
    *("CHECKED", "READ_CHECKS", "Checks", "Found", "Plan"),
    *("checked", "smallest_budgets", "two_digits"),
]

# rounding of pixel values
_SLACK = 1e-4

#: what :meth:`Checks.cells` are
CHECKED = (
    "images",
    "attack",
    "by budget",
    "by steps",
    "unbounded",
    "noise",
    "square",
    "gradients",
)
#: and how to read them
READ_CHECKS = (
    "Sanity checks on a few images. *By budget* and *by steps*: the attack that by itself gets "
    "most of them through, from scratch at each budget, and with fewer steps at the one in "
    "brackets; both should grow. *Unbounded*: all attacks without a budget, should be near 1. "
    "*Noise*: random changes of the largest budget, should be near 0. *Square*: search without "
    "gradients, against *gradients*: if it is the stronger one (in bold), gradients are masked "
    "and the attacks above are too weak."
)


@dataclass(frozen=True)
class Plan:
    """How hard is tried."""

    #: ascending
    budgets: tuple[float, ...]
    #: by name, in the order in which they are tried
    attacks: Mapping[str, Attack]
    #: gradient steps of each
    steps: int
    #: runs of each; the first starts from the clean image
    restarts: int = 1
    #: images for the sanity checks, 0 for none
    checks: int = 0
    batch_size: int = 50
    seed: int = 0
    #: folder for finished batches
    cache: Path | None = None
    progress: bool = False
    #: told what goes on
    tell: Callable[[str], object] = str


class Found(NamedTuple):
    """What gets through, for each of :math:`B` images."""

    #: index of the smallest budget at which it does; the number of budgets where at none
    level: Tensor
    #: index of the attack that did it, -1 where none did
    attack: Tensor
    #: what got through, the clean image where nothing did, (B, C, H, W)
    x: Tensor

    def pixels(self) -> Tensor:
        """:return: the images as bytes"""
        return (self.x * 255).round().to(torch.uint8).cpu()


def smallest_budgets(system: System, x: Tensor, y: Tensor, plan: Plan) -> Found:
    """
    Bisection, for each clean image, which the classifier gets right: what gets through at a budget
    does so at all larger ones, what no attack brings through is tried with more. Each image is
    thus attacked at a third of the budgets, the one below its answer always among them.
    """
    limits = torch.tensor(plan.budgets, device=x.device, dtype=x.dtype)
    failed = torch.full_like(y, -1)
    found = Found(torch.full_like(y, len(limits)), torch.full_like(y, -1), x.clone())
    while bool((open_ := found.level - failed > 1).any()):
        index = open_.nonzero().squeeze(1)
        middle = (failed[index] + found.level[index]) // 2
        target = Target(system, x[index], y[index], limits[middle].view(-1, 1, 1, 1))
        attack, candidates = _strongest(target, plan)
        through = attack >= 0
        failed[index[~through]] = middle[~through]
        place = index[through]
        found.x[place], found.attack[place] = candidates[through], attack[through]
        change = (candidates - x[index])[through].abs().amax(dim=(1, 2, 3))
        found.level[place] = torch.searchsorted(limits, change - _SLACK * limits[0])
        failed[place] = torch.minimum(failed[place], found.level[place] - 1)
    return found


def _strongest(target: Target, plan: Plan) -> tuple[Tensor, Tensor]:
    """Attack after attack on what none has brought through yet: which did it, -1 for none."""
    attack, images = torch.full_like(target.y, -1), target.x.clone()
    for number, (name, each) in enumerate(plan.attacks.items()):
        for run in range(plan.restarts):
            index = (attack < 0).nonzero().squeeze(1)
            if len(index) == 0:
                return attack, images
            plan.tell(f"{name}, {len(index)} images")
            got, candidates = _judged(target[index], each, plan.steps, run > 0)
            attack[index[got]] = number
            images[index[got]] = candidates[got]
    return attack, images


def _judged(
    target: Target, attack: Attack, steps: int, random_start: bool = False
) -> tuple[Tensor, Tensor]:
    """Which images one attack gets through, asked again without gradients, and the images."""
    candidates, promising = attack.run(target, steps, random_start)
    index = promising.nonzero().squeeze(1)
    got = torch.zeros_like(promising)
    if len(index):
        with torch.no_grad():
            got[index] = target[index].attempt(candidates[index], everywhere=False).through
    return got, candidates


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

    def cells(self) -> list[str]:
        """:return: a line of the table"""
        steps = ", ".join(f"{steps}: {share:.2f}" for steps, share in self.by_steps.items())
        square, white = two_digits(self.black_box, self.white_box)
        return [
            str(self.images),
            self.attack,
            " ".join(two_digits(*self.by_budget)),
            f"{steps} ({255 * self.budget:g}/255)",
            *two_digits(self.unbounded, self.noise),
            f"**{square}**" if self.masked else square,
            white,
        ]


def two_digits(*shares: float) -> list[str]:
    """:return: shares as text"""
    return [f"{share:.2f}" for share in shares]


def checked(system: System, x: Tensor, y: Tensor, plan: Plan, found: Found) -> Checks | None:
    """The checks on a few images, the first that something was found for; none of square alone."""
    gradient = {n: each for n, each in plan.attacks.items() if not isinstance(each, Square)}
    if not gradient:
        return None
    budgets, level, few = plan.budgets, found.level[: len(x)], len(x)

    def target(epsilon: float) -> Target:
        return Target(system, x, y, torch.full((few, 1, 1, 1), epsilon).to(x))

    def alone(attack: Attack, epsilon: float, steps: int = plan.steps) -> float:
        plan.tell(f"check: {steps} steps at {epsilon * 255:g}/255")
        return _share(_judged(target(epsilon), attack, steps)[0])

    middle = next((b for i, b in enumerate(budgets) if _share(level <= i) >= 0.5), budgets[-1])
    knowing = {name: each for name, each in gradient.items() if each.knows_system} or gradient
    best = max(knowing, key=lambda name: alone(knowing[name], middle))
    by_budget = [alone(gradient[best], epsilon) for epsilon in budgets]
    at = min(range(len(budgets)), key=lambda i: abs(by_budget[i] - 0.5))
    fewer = sorted({max(1, plan.steps // 8), max(1, plan.steps // 3)} - {plan.steps})
    by_steps = {steps: alone(gradient[best], budgets[at], steps) for steps in fewer}
    black_box = alone(Square(), budgets[at])
    noise = round_to_8_bit(x + (2 * torch.rand(x.shape).to(x) - 1) * budgets[-1])
    white = found.attack[:few] < len(gradient)
    through, epsilon = white & (level < len(budgets)), budgets[-1]
    # doubled, up to all that a pixel can change: what needs 20/255 is not found by steps that fit
    # 255/255
    while epsilon < 1:
        epsilon = min(1.0, 2 * epsilon)
        rest = (~through).nonzero().squeeze(1)
        through[rest] = _strongest(target(epsilon)[rest], replace(plan, attacks=gradient))[0] >= 0
    return Checks(
        images=few,
        attack=best,
        by_budget=by_budget,
        budget=budgets[at],
        by_steps=by_steps | {plan.steps: by_budget[at]},
        unbounded=_share(through),
        noise=_share(target(budgets[-1]).attempt(noise, gradients=False).through),
        black_box=black_box,
        white_box=_share(white & (level <= at)),
    )


def _share(hits: Tensor) -> float:
    return float(hits.float().mean()) if len(hits) else 0.0
