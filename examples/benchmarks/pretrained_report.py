"""Tables and figure of the benchmark of pretrained classifiers."""

import math
from pathlib import Path

import matplotlib
from pandas import DataFrame
from tables import keep, markdown

matplotlib.use("Agg")
import matplotlib.pyplot as plt

__all__ = ["attack_table", "auroc_table", "draw", "keep", "markdown", "report"]

RECOMMENDED = "ViyogResidue"
_SHOWN = (RECOMMENDED, "ResidueOutlier", "ViyogTV", "Viyog", "Energy", "kNN", "ViM")
_COLOURS = ("#0072b2", "#f0e442", "#56b4e9", "#7f7f7f", "#d55e00", "#009e73", "#cc79a7")
#: question, metric, attacks, bound; the last is a bound from above
_TARGETS = (
    ("ID-vs-ADV", "AUROC", ("fgsm8", "pgd8", "pgd4"), 0.995),
    ("ID-vs-ADV", "AUROC", ("pgd2",), 0.98),
    ("ID-vs-ADV", "AUROC", ("pgd1",), 0.90),
    ("OOD-vs-ADV", "AUROC", ("fgsm8", "pgd8", "pgd4", "pgd2"), 0.999),
    ("OOD-vs-ADV", "FPR95", ("fgsm8", "pgd8", "pgd4", "pgd2"), 0.01),
)


def report(results: DataFrame, attacks: DataFrame) -> str:
    """
    :param results: rows of ``pretrained.csv``
    :param attacks: rows about what the attacks did
    :return: the report in Markdown
    """
    counts = results[results["negatives"] == "id"]["n_negatives"].max()
    sets = sorted(set(results["negatives"]) - {"id"})
    return "\n\n".join(
        [
            "# Pretrained classifiers at 224 pixels",
            "Made by `python examples/benchmarks/pretrained.py --images ... --ood ...`. Attacks "
            "are rounded to 8 bit and count where the model's own answer still changes; AUROC "
            "keeps its direction (below 0.5: the wrong way round). Detectors are fitted without "
            f"labels on ID images that are not measured on; {counts} clean ID images; OOD sets: "
            f"{', '.join(sets)}.",
            f"## {RECOMMENDED} against the targets",
            _targets(results),
            "## ID-vs-ADV\n\nAUROC by attack.",
            *_by_model(results[results["negatives"] == "id"]),
            "## OOD-vs-ADV\n\nAUROC by attack, mean over the OOD sets (the worst of them).",
            *_by_model(results[results["negatives"] != "id"]),
            "## Attacks\n\nSize of the successful perturbations: largest change and root mean "
            "square, in units of 1/255. An attack without any success has no row above.",
            attack_table(attacks),
            "![AUROC by attack](pretrained.png)\n",
        ]
    )


def _by_model(rows: DataFrame) -> list[str]:
    parts = []
    for model in rows["model"].unique():
        parts += [f"**{model}**", auroc_table(rows[rows["model"] == model])]
    return parts


def auroc_table(rows: DataFrame) -> str:
    """
    :param rows: rows of one model, of one kind of negatives
    :return: detectors × attacks; the best in bold
    """
    attacks, detectors = rows["attack"].unique(), rows["detector"].unique()
    means = rows.groupby(["detector", "attack"])["AUROC"].mean()
    worst = rows.groupby(["detector", "attack"])["AUROC"].min()
    lines = [["", *attacks]]
    for detector in detectors:
        cells = [detector]
        for attack in attacks:
            mean, low = means[detector, attack], worst[detector, attack]
            text = f"{mean:.3f}"
            if f"{means[:, attack].max():.3f}" == text:
                text = f"**{text}**"
            cells.append(text if rows["negatives"].nunique() == 1 else f"{text} ({low:.2f})")
        lines.append(cells)
    return markdown(lines)


def attack_table(attacks: DataFrame) -> str:
    """:return: a row for each attack: how often it succeeded, and by what change"""
    lines = [["model", "attack", "attacked", "succeeded", "L∞", "RMS"]]
    for row in attacks.itertuples():
        sizes = [f"{row.linf:.1f}", f"{row.rms:.2f}"] if row.succeeded else ["", ""]
        lines.append([row.model, row.attack, str(row.attacked), str(row.succeeded), *sizes])
    return markdown(lines)


def _targets(results: DataFrame) -> str:
    own = results[results["detector"] == RECOMMENDED]
    models = list(own["model"].unique())
    lines = [["target", *models]]
    for question, metric, attacks, bound in _TARGETS:
        against_id = question == "ID-vs-ADV"
        rows = own[(own["negatives"] == "id") == against_id]
        for attack in attacks:
            sign = "≤" if metric == "FPR95" else "≥"
            cells = [f"{question} {attack}, {metric} {sign} {bound:g}"]
            for model in models:
                chosen = rows[(rows["model"] == model) & (rows["attack"] == attack)]
                cells.append(_cell(chosen[metric].mean(), bound, metric == "FPR95"))
            lines.append(cells)
    return f"What is missed stands in bold.\n\n{markdown(lines)}"


def _cell(value: float, bound: float, at_most: bool) -> str:
    if value != value:
        return "–"
    met = value <= bound if at_most else value >= bound
    return f"{value:.4f}" if met else f"**{value:.4f}**"


def draw(results: DataFrame, path: Path) -> None:
    """
    :param results: rows of ``pretrained.csv``
    :param path: where the figure is written: AUROC by attack, a column for each model
    """
    models = list(results["model"].unique())
    figure, axes = plt.subplots(
        2,
        len(models),
        figsize=(5 * len(models) + 2, 6),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for column, model in enumerate(models):
        rows = results[results["model"] == model]
        axes[0, column].set_title(model, fontsize=11)
        _panel(axes[0, column], rows[rows["negatives"] == "id"])
        _panel(axes[1, column], rows[rows["negatives"] != "id"])
    axes[0, 0].set_ylabel("AUROC ID-vs-ADV")
    axes[1, 0].set_ylabel("AUROC OOD-vs-ADV")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncol=math.ceil(len(labels) / 2), frameon=False
    )
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _panel(axis: plt.Axes, rows: DataFrame) -> None:
    attacks = list(rows["attack"].unique())
    for detector, colour in zip(_SHOWN, _COLOURS, strict=True):
        own = rows[rows["detector"] == detector]
        means = own.groupby("attack")["AUROC"].mean().reindex(attacks)
        axis.plot(means.to_numpy(), "o-", color=colour, ms=4, lw=1, label=detector)
    axis.axhline(0.5, color="0.3", lw=0.8, ls=":")
    axis.set_ylim(-0.02, 1.02)
    axis.grid(axis="y", color="0.92", lw=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xticks(range(len(attacks)), attacks, rotation=45)
