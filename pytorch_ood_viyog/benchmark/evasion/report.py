"""
An evaluation as tables and a figure.
"""

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...evaluation.plotting import pyplot, write_figure
from .checks import Checks
from .preparing import ALONE
from .result import Outcome

__all__ = ["Evasion", "plot_accepted"]

_READ = (
    "Share of the attacked images that fool the classifier and that the system lets pass, by the "
    "strongest of all attacks for each image. *Half*: the budget at which half of them do. "
    "*Price*: that budget over the one of the classifier alone, with its 95 % bootstrap interval; "
    "1 means that the detector costs an attacker nothing. Budgets and *half* are largest changes "
    "of a pixel in 1/255, all changes are rounded to 8 bit."
)
_TRANSFER = (
    "Share of what gets through the system of a line that gets through the system of a column "
    "too, though made without it."
)
_CHECKS = (
    "Sanity checks on a few images. *By budget* and *by steps*: the attack that by itself gets "
    "most of them through, from scratch at each budget, and with fewer steps at the one in "
    "brackets; both should grow. *Unbounded*: all attacks without a budget, should be near 1. "
    "*Noise*: random changes of the largest budget, should be near 0. *Square*: search without "
    "gradients, against *gradients*: if it is the stronger one (in bold), gradients are masked "
    "and the attacks above are too weak."
)

_COLOURS = ("#555555", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377", "#66ccee")


@dataclass(frozen=True)
class Evasion(Outcome):
    """What :func:`~pytorch_ood_viyog.benchmark.evasion.evasion.evasion` found."""

    def table(self, title: str = "The price of evasion") -> str:
        """
        :param title: heading
        :return: Markdown: accepted shares, prices, the attacks that got through, transfer, checks
        """
        counts = f"{len(self.index)} images attacked, {self.left_out} left out: the classifier "
        counts += f"gets them wrong before any attack. {self.settings}"
        parts = [f"# {title}", counts, _READ, _table(self._head(), self._lines())]
        parts += ["What got through, by the first attack that did it:", self._attacks()]
        if any(self.transfer.values()):
            parts += [_TRANSFER, self._transfer()]
        checks = {name: r.checks for name, r in self.systems.items() if r.checks is not None}
        if checks:
            parts += [_CHECKS, _checks(checks)]
        return "\n\n".join([*parts, *self._notes()]) + "\n"

    def _head(self) -> list[str]:
        budgets = [f"{255 * budget:g}" for budget in self.budgets]
        return ["system", "clean alarms", *budgets, "half", "price"]

    def _lines(self) -> list[list[str]]:
        return [
            [
                name,
                f"{self.alarms[name]:.2f}",
                *(f"{share:.2f}" for share in self.accepted(name).values()),
                self._half_text(name),
                self._price_text(name),
            ]
            for name in self.systems
        ]

    def _half_text(self, name: str) -> str:
        half = self.half(name)
        largest = 255 * self.budgets[-1]
        return f"> {largest:g}" if math.isinf(half) else f"{255 * half:.1f}"

    def _price_text(self, name: str) -> str:
        if name == ALONE:
            return "1"
        alone = self.half(ALONE)
        if math.isinf(alone):
            return "–"
        most = self.budgets[-1] / alone
        price, low, high = (
            f"> {most:.1f}" if math.isinf(value) else f"{value:.1f}" for value in self.price(name)
        )
        return f"{price} ({low} to {high})"

    def _attacks(self) -> str:
        lines = []
        for name, result in self.systems.items():
            counts = Counter(attack for attack in result.attack if attack)
            shown = [
                f"**square {count}**" if attack == "square" else f"{attack} {count}"
                for attack, count in counts.most_common()
            ]
            lines.append([name, ", ".join(shown) or "nothing"])
        return _table(["system", "attacks"], lines)

    def _transfer(self) -> str:
        names = list(self.systems)
        lines = [
            [name, *(_share(self.transfer.get(name, {}).get(other)) for other in names)]
            for name in names
        ]
        return _table(["made for", *names], lines)

    def _notes(self) -> list[str]:
        notes = []
        for name, result in self.systems.items():
            if not result.differentiable:
                notes.append(
                    f"**{name} has no gradients**: it was attacked by what does not know it, by "
                    f"transfer and by the search without gradients only. A low share here is "
                    f"weak evidence."
                )
            if result.draws > 1:
                notes.append(
                    f"{name} has random parts: gradients are means over {result.draws} draws, "
                    f"and what counts gets through in half of them."
                )
            if result.checks is not None and result.checks.masked:
                notes.append(
                    f"**{name} masks its gradients**: the search without gradients gets more "
                    f"through. The table shows too little."
                )
        return notes

    def save(self, path: str | Path, title: str = "The price of evasion") -> list[Path]:
        """
        :param path: where to, without suffix; folders are made
        :param title: heading
        :return: the files written, ``path.md`` and ``path.csv``
        """
        text, table = Path(f"{path}.md"), Path(f"{path}.csv")
        text.parent.mkdir(parents=True, exist_ok=True)
        rows = self.rows()
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({n: _short(value) for n, value in row.items()})
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


def plot_accepted(
    panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]], path: Path
) -> Path:
    """
    :param panels: title -> budgets, and system -> accepted share at each
    :param path: PNG file to write; folders are made
    :return: the file
    :raises ImportError: if matplotlib is not installed
    """
    plt = pyplot()
    names = list(dict.fromkeys(name for _, curves in panels.values() for name in curves))
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(1.2 + 3.3 * len(panels), 3.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, (budgets, curves)) in zip(axes[0], panels.items(), strict=True):
        levels = [255 * budget for budget in budgets]
        for name, shares in curves.items():
            style = "--" if name == names[0] else "-"
            axis.plot(levels, shares, style, marker="o", ms=3, color=colours[name])
        axis.axhline(0.5, color="black", linewidth=0.5, linestyle=":")
        axis.set_xscale("log", base=2)
        axis.set_xticks(levels, [f"{level:g}" for level in levels], fontsize=7)
        axis.minorticks_off()
        axis.set_ylim(-0.02, 1.02)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("budget in 1/255", fontsize=8)
        axis.tick_params(axis="y", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("accepted share", fontsize=8)
    lines = [plt.Line2D([], [], color=colours[name], label=name) for name in names]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(4, len(names)), fontsize=8)
    return write_figure(plt, figure, path)


def _checks(checks: dict[str, Checks]) -> str:
    head = ["system", "images", "attack", "by budget", "by steps", "unbounded", "noise"]
    lines = []
    for name, each in checks.items():
        square = f"{each.black_box:.2f}"
        lines.append(
            [
                name,
                str(each.images),
                each.attack,
                " ".join(f"{share:.2f}" for share in each.by_budget),
                ", ".join(f"{steps}: {share:.2f}" for steps, share in each.by_steps.items())
                + f" ({255 * each.budget:g}/255)",
                f"{each.unbounded:.2f}",
                f"{each.noise:.2f}",
                f"**{square}**" if each.masked else square,
                f"{each.white_box:.2f}",
            ]
        )
    return _table([*head, "square", "gradients"], lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
