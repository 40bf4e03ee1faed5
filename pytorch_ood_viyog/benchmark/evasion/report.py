"""
What evading systems costs: accepted shares, prices, and both as tables.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...evaluation.bootstrap import resample
from ...evaluation.rows import Row
from ..report.tables import write_csv
from .curves import plot_accepted
from .search import CHECKED, READ_CHECKS, Checks, two_digits
from .system import ALONE

__all__ = ["Evasion", "SystemResult", "half_budgets"]

_READ = (
    "Share of the attacked images that fool the classifier and that the system lets pass, by the "
    "strongest of all attacks for each image. *Half*: the budget at which half of them do. "
    "*Price*: that budget over the one of the classifier alone, with its 95 % bootstrap interval; "
    "1 means that the detector costs an attacker nothing. Budgets and *half* are largest changes "
    "of a pixel in 1/255, all changes are rounded to 8 bit."
)
_RESAMPLES = 1000


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
    #: share of the clean attacked images that it raises an alarm for
    alarms: float
    #: sanity checks
    checks: Checks | None


@dataclass(frozen=True)
class Evasion:
    """What :func:`~pytorch_ood_viyog.benchmark.evasion.evasion.evasion` found."""

    #: largest changes of a pixel, for images in [0, 1], ascending
    budgets: tuple[float, ...]
    #: system -> what got through, the classifier alone first
    systems: dict[str, SystemResult]
    #: images that were attacked, of those given
    index: Tensor
    #: number of images that the classifier got wrong before any attack; they were left out
    left_out: int
    #: what was asked for, in words
    settings: str
    #: seed of the bootstrap resamples
    seed: int = 0

    def accepted(self, system: str) -> dict[float, float]:
        """
        :param system: name of a system
        :return: budget -> share of the attacked images that any attack gets through with it
        """
        level = self.systems[system].level
        return {b: float((level <= i).float().mean()) for i, b in enumerate(self.budgets)}

    def half(self, system: str) -> float:
        """
        :param system: name of a system
        :return: :math:`\\epsilon_{50}`, the smallest budget at which half of the images get
            through, see :func:`half_budgets`
        """
        return float(self._halves(system, torch.ones(1, len(self.index)))[0])

    def price(self, system: str) -> tuple[float, float, float]:
        """
        :param system: name of a system
        :return: :math:`\\epsilon_{50}` over that of the classifier alone, and the ends of its
            95 % bootstrap interval: both systems were attacked on the same images, which are drawn
            together. Infinite where half of the images do not get through at any budget.
        """
        drawn = resample(len(self.index), _RESAMPLES, self.seed)
        drawn = torch.cat([torch.ones_like(drawn[:1]), drawn])
        prices = self._halves(system, drawn) / self._halves(ALONE, drawn)
        prices = prices.nan_to_num(nan=math.inf, posinf=math.inf)
        ends = (prices[1:].quantile(q, interpolation="nearest") for q in (0.025, 0.975))
        low, high = map(float, ends)
        return float(prices[0]), low, high

    def _halves(self, system: str, drawn: Tensor) -> Tensor:
        levels = range(len(self.budgets))
        through = torch.stack([self.systems[system].level <= i for i in levels], dim=1)
        return half_budgets(self.budgets, drawn.double() @ through.double() / len(self.index))

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

    def table(self, title: str = "The price of evasion") -> str:
        """
        :param title: heading
        :return: Markdown: accepted shares, prices, the attacks that got through, checks
        """
        budgets = [f"{255 * budget:g}" for budget in self.budgets]
        shares = [self._line(name) for name in self.systems]
        checks = [[n, *r.checks.cells()] for n, r in self.systems.items() if r.checks is not None]
        parts = [
            f"# {title}",
            f"{len(self.index)} images attacked, {self.left_out} left out: the classifier gets "
            f"them wrong before any attack. {self.settings}",
            _READ,
            _table(["system", "clean alarms", *budgets, "half", "price"], shares),
            "What got through, by the first attack that did it:",
            _table(["system", "attacks"], [[n, _by(r)] for n, r in self.systems.items()]),
        ]
        if checks:
            parts += [READ_CHECKS, _table(["system", *CHECKED], checks)]
        notes = [note for n, result in self.systems.items() for note in _notes(n, result)]
        return "\n\n".join([*parts, *notes]) + "\n"

    def _line(self, name: str) -> list[str]:
        shares = two_digits(self.systems[name].alarms, *self.accepted(name).values())
        half, alone, largest = self.half(name), self.half(ALONE), self.budgets[-1]
        half_text = f"> {255 * largest:g}" if math.isinf(half) else f"{255 * half:.1f}"
        if name == ALONE or math.isinf(alone):
            return [name, *shares, half_text, "1" if name == ALONE else "–"]
        most = f"> {largest / alone:.1f}"
        price, low, high = (most if math.isinf(p) else f"{p:.1f}" for p in self.price(name))
        return [name, *shares, half_text, f"{price} ({low} to {high})"]

    def save(self, path: str | Path, title: str = "The price of evasion") -> list[Path]:
        """
        :param path: where to, without suffix; folders are made
        :param title: heading
        :return: the files written, ``path.md`` and ``path.csv``
        """
        text, table = Path(f"{path}.md"), write_csv(self.rows(), Path(f"{path}.csv"))
        text.write_text(self.table(title), encoding="utf-8")
        return [text, table]

    def plot(self, path: str | Path, title: str = "") -> Path:
        """
        The curves: accepted share against budget, a line for each system. Needs matplotlib.

        :param path: where to, without suffix; folders are made
        :param title: heading
        :return: the file written, ``path.png``
        :raises ImportError: if matplotlib is not installed
        """
        curves = {name: list(self.accepted(name).values()) for name in self.systems}
        return plot_accepted({title: (self.budgets, curves)}, Path(f"{path}.png"))

    def __str__(self) -> str:
        return self.table()


def half_budgets(budgets: Sequence[float], shares: Tensor) -> Tensor:
    """
    Where straight lines through accepted shares, :math:`R \\times K`, reach one half; the smallest
    budget where they begin above it, as changes below 1/255 cannot be stored; infinite where they
    do not reach it, shape :math:`R`.
    """
    at, values = torch.tensor(budgets).double(), shares.double()
    reached = values >= 0.5 - 1e-9
    last = reached.int().argmax(dim=1)
    first = (last - 1).clamp_min(0)
    low, high = (values.gather(1, i[:, None]).squeeze(1) for i in (first, last))
    part = (0.5 - low) / (high - low).clamp_min(1e-12)
    found = at[first] + part * (at[last] - at[first])
    return torch.where(reached.any(dim=1), found, torch.inf)


def _by(result: SystemResult) -> str:
    """Attacks that got through, by how often they were the first to."""
    counts = Counter(attack for attack in result.attack if attack).most_common()
    shown = (f"**square {n}**" if name == "square" else f"{name} {n}" for name, n in counts)
    return ", ".join(shown) or "nothing"


def _notes(name: str, result: SystemResult) -> Iterator[str]:
    if not result.differentiable:
        yield (
            f"**{name} has no gradients**: it was attacked by what does not know it and by the "
            f"search without gradients only. A low share here is weak evidence."
        )
    if result.draws > 1:
        yield (
            f"{name} has random parts: gradients are means over {result.draws} draws, and what "
            f"counts gets through in half of them."
        )
    if result.checks is not None and result.checks.masked:
        yield (
            f"**{name} masks its gradients**: the search without gradients gets more through. "
            f"The table shows too little."
        )


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
