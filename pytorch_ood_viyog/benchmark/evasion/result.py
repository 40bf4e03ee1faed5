"""
What evading systems costs: accepted shares, the budget for half of the images, and the price.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...evaluation.bootstrap import resample
from ...evaluation.rows import Row
from .checks import Checks
from .preparing import ALONE

__all__ = ["Outcome", "SystemResult", "half_budgets"]


@dataclass(frozen=True)
class SystemResult:
    """What got through one system; :math:`n` images were attacked at :math:`K` budgets."""

    #: index of the smallest budget at which an image gets through, :math:`K` where it does at
    #: none, shape :math:`n`
    level: Tensor
    #: name of the attack that did it for each image, empty where none did
    attack: list[str]
    #: what got through, the clean image where nothing did, uint8 of shape (n, C, H, W)
    pixels: Tensor
    #: whether it was attacked by the gradients of its alarms
    differentiable: bool
    #: how often it was asked about the same image: more than once where it has random parts
    draws: int
    #: sanity checks
    checks: Checks | None

    def accepted(self, budgets: int) -> list[float]:
        """
        :param budgets: number of budgets :math:`K`
        :return: share of the images that get through at each
        """
        return [float((self.level <= i).float().mean()) for i in range(budgets)]


@dataclass(frozen=True)
class Outcome:
    """What got through which system at which budget, and what follows from it."""

    #: largest changes of a pixel, for images in [0, 1], ascending
    budgets: tuple[float, ...]
    #: system -> what got through, the classifier alone first
    systems: dict[str, SystemResult]
    #: images that were attacked, of those given
    index: Tensor
    #: number of images that the classifier got wrong before any attack; they were left out
    left_out: int
    #: share of the clean attacked images that each system raises an alarm for
    alarms: dict[str, float]
    #: what was asked for, in words
    settings: str
    #: number of bootstrap resamples
    resamples: int = 1000
    #: seed of the resamples
    seed: int = 0
    #: one system's accepted images -> share of them that another accepts too
    transfer: dict[str, dict[str, float]] = field(default_factory=dict)

    def accepted(self, system: str) -> dict[float, float]:
        """
        :param system: name of a system
        :return: budget -> share of the attacked images that any attack gets through with it
        """
        shares = self.systems[system].accepted(len(self.budgets))
        return dict(zip(self.budgets, shares, strict=True))

    def half(self, system: str) -> float:
        """
        :param system: name of a system
        :return: :math:`\\epsilon_{50}`, the smallest budget at which half of the images get
            through, by straight lines between the budgets; the smallest of them if that is enough
            already, infinite if the largest is not
        """
        return float(half_budgets(self.budgets, self._counts(system, self._once()))[0])

    def price(self, system: str) -> tuple[float, float, float]:
        """
        :param system: name of a system
        :return: :math:`\\epsilon_{50}` over that of the classifier alone, and the ends of its
            95 % bootstrap interval: both systems were attacked on the same images, which are drawn
            together. Infinite where half of the images do not get through at any budget.
        """
        drawn = torch.cat([self._once(), resample(len(self.index), self.resamples, self.seed)])
        own, alone = (
            half_budgets(self.budgets, self._counts(name, drawn)) for name in (system, ALONE)
        )
        prices = (own / alone).nan_to_num(nan=math.inf, posinf=math.inf)
        spread = prices[1:] if self.resamples else prices
        low, high = (float(spread.quantile(q, interpolation="nearest")) for q in (0.025, 0.975))
        return float(prices[0]), low, high

    def _once(self) -> Tensor:
        return torch.ones(1, len(self.index), dtype=torch.int32)

    def _counts(self, system: str, drawn: Tensor) -> Tensor:
        levels = range(len(self.budgets))
        through = torch.stack([self.systems[system].level <= i for i in levels], dim=1)
        return drawn.double() @ through.double() / len(self.index)

    def rows(self) -> list[Row]:
        """:return: one row for each system and budget"""
        return [
            {
                "System": name,
                "Budget": 255 * budget,
                "Accepted": share,
                "Attacked": len(self.index),
                "HalfBudget": 255 * self.half(name),
                "Price": price,
                "Price low": low,
                "Price high": high,
            }
            for name in self.systems
            for price, low, high in [self.price(name)]
            for budget, share in self.accepted(name).items()
        ]


def half_budgets(budgets: Sequence[float], shares: Tensor) -> Tensor:
    """
    :param budgets: ascending
    :param shares: accepted shares at each budget, ascending, shape :math:`R \\times K`
    :return: where straight lines through the shares reach one half; the smallest budget where
        they begin above it, as changes below 1/255 cannot be stored; infinite where they do not
        reach it, shape :math:`R`
    """
    at, values = torch.tensor(budgets).double(), shares.double()
    reached = values >= 0.5 - 1e-9
    last = reached.int().argmax(dim=1)
    first = (last - 1).clamp_min(0)
    low, high = (values.gather(1, i[:, None]).squeeze(1) for i in (first, last))
    part = (0.5 - low) / (high - low).clamp_min(1e-12)
    found = at[first] + part * (at[last] - at[first])
    return torch.where(reached.any(dim=1), found, torch.inf)
