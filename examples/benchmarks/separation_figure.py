"""The figure of the separation benchmark: AUROC by attack, configuration and detector."""

from pathlib import Path

import matplotlib
from pandas import DataFrame
from separation_report import natural
from separation_scores import DETECTORS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_SHOWN = DETECTORS[:3]  # the fourth equals ViyogTV
_COLOURS = ("#0072b2", "#d55e00", "#7f7f7f")
_LABELS = {
    "fgsm8": "FGSM 8",
    "pgd8": "PGD 8",
    "pgd4": "PGD 4",
    "pgd2": "PGD 2",
    "bim8": "BIM 8",
    "deepfool": "DeepFool",
    "cw": "CW",
}


def draw(results: DataFrame, path: Path) -> None:
    """
    :param results: rows of ``separation.csv``
    :param path: where the figure is written
    """
    configs = list(results["config"].unique())
    size = (2.9 * len(configs) + 1, 5.6)
    figure, axes = plt.subplots(
        2, len(configs), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for column, config in enumerate(configs):
        rows = results[results["config"] == config]
        axes[0, column].set_title(config, fontsize=11)
        _panel(axes[0, column], natural(rows))
        _panel(axes[1, column], rows[rows["negatives"] == "id"])
    axes[0, 0].set_ylabel("AUROC OOD-vs-ADV")
    axes[1, 0].set_ylabel("AUROC ID-vs-ADV")
    names = [f"{d} (= {DETECTORS[3]})" if d == "ViyogTV" else d for d in _SHOWN]
    handles = [
        plt.Line2D([], [], color=c, marker="_", ms=12, mew=3, ls="", label=name)
        for name, c in zip(names, _COLOURS, strict=True)
    ]
    handles.append(
        plt.Line2D([], [], color="0.5", marker="o", ms=4, alpha=0.5, ls="", label="one OOD set")
    )
    figure.legend(handles=handles, loc="lower center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _panel(axis: plt.Axes, rows: DataFrame) -> None:
    """Mean over the negatives as a dash, each set of negatives as a point."""
    attacks = [attack for attack in _LABELS if attack in set(rows["attack"])]
    for offset, (detector, colour) in enumerate(zip(_SHOWN, _COLOURS, strict=True)):
        for position, attack in enumerate(attacks):
            chosen = (rows["detector"] == detector) & (rows["attack"] == attack)
            values = rows[chosen]["AUROC"]
            x = position + 0.25 * (offset - 1)
            if len(values) > 1:
                axis.plot([x] * len(values), values, "o", color=colour, ms=3, alpha=0.4, mew=0)
            axis.plot(x, values.mean(), "_", color=colour, ms=8, mew=2.5)
    axis.axhline(0.5, color="0.3", lw=0.8, ls=":")
    axis.set_ylim(-0.02, 1.02)
    axis.grid(axis="y", color="0.92", lw=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xticks(range(len(attacks)), [_LABELS[a] for a in attacks], rotation=60, fontsize=8)
