"""
The curve of an evaluation: accepted share against budget.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...evaluation.plotting import pyplot, write_figure

__all__ = ["plot_accepted"]

_COLOURS = ("#555555", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377", "#66ccee")


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
