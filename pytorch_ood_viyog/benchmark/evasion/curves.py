"""
A figure of what evading systems costs: accepted share against budget.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...evaluation.plotting import pyplot, write_figure

__all__ = ["plot_accepted"]


def plot_accepted(
    panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]], path: Path
) -> Path:
    """:return: a PNG file of panels: title -> budgets, and system -> accepted share at each"""
    plt = pyplot()
    names = list(dict.fromkeys(name for _, curves in panels.values() for name in curves))
    size = (1.2 + 3.3 * len(panels), 3.4)
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    lines = {}
    for axis, (title, (budgets, curves)) in zip(axes[0], panels.items(), strict=True):
        levels = [255 * budget for budget in budgets]
        for name, shares in curves.items():
            place = names.index(name)
            # the first, which others may cover, is dashed and above them
            style = f"{'-' if place else '--'}C{place}"
            order = 2 if place else 3
            lines[name] = axis.plot(levels, shares, style, marker="o", ms=3, zorder=order)[0]
        axis.axhline(0.5, color="black", linewidth=0.5, linestyle=":")
        axis.set_xscale("log", base=2)
        axis.set_xticks(levels, [f"{level:g}" for level in levels], fontsize=7)
        axis.minorticks_off()
        axis.set(ylim=(-0.02, 1.02), title=title, xlabel="budget in 1/255", ylabel="accepted")
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=4, fontsize=8)
    return write_figure(plt, figure, path)
