"""Tables and figure of the map of threats."""

from pathlib import Path

import matplotlib
import numpy as np
from pandas import DataFrame
from pretrained_report import markdown
from pretrained_scores import OURS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

__all__ = ["best_of_theirs", "blind_spots", "draw", "report", "table"]

_SHOWN_OF_THEIRS = 5
# below it, a detector does not see an attack on ID
_BLIND = 0.8


def report(results: DataFrame) -> str:
    """
    :param results: rows of ``threats.csv``
    :return: the report in Markdown
    """
    detectors = [*OURS, *best_of_theirs(results)]
    parts = [
        "# A map of threats",
        "Made by `python examples/benchmarks/threats.py --images ... --ood ... --data ...`. "
        "Attacks are rounded to 8 bit and count where the model's own answer still changes; AUROC "
        "keeps its direction (below 0.5: the wrong way round). Slow attacks were run on few "
        "images: a number from ten or twenty successes is a hint. L∞ and RMS of the successful "
        f"changes in 1/255. Of pytorch-ood's detectors the {_SHOWN_OF_THEIRS} with the best "
        "mean AUROC of ID-vs-ADV are shown, chosen by a look at these results.",
    ]
    for model in results["model"].unique():
        rows = results[results["model"] == model]
        parts += [
            f"## {model}",
            "ID-vs-ADV:",
            table(rows, detectors, against_id=True),
            "OOD-vs-ADV, mean over the OOD sets:",
            table(rows, detectors, against_id=False),
            blind_spots(rows, list(rows["detector"].dropna().unique())),
        ]
    return "\n\n".join([*parts, "![AUROC by threat and detector](threats.png)\n"])


def best_of_theirs(results: DataFrame) -> list[str]:
    """:return: pytorch-ood's detectors with the best mean AUROC of ID-vs-ADV over all threats"""
    rows = results[(results["negatives"] == "id") & ~results["detector"].isin(OURS)]
    means = rows.groupby("detector")["AUROC"].mean().sort_values(ascending=False)
    return list(means.index[:_SHOWN_OF_THEIRS])


def means(rows: DataFrame, against_id: bool) -> DataFrame:
    """:return: mean AUROC, a line for each attack in their order, a column for each detector"""
    known = rows.dropna(subset=["negatives"])
    chosen = known[(known["negatives"] == "id") == against_id]
    wide = chosen.pivot_table(index="attack", columns="detector", values="AUROC")
    return wide.reindex(rows["attack"].unique())


def table(rows: DataFrame, detectors: list[str], against_id: bool) -> str:
    """
    :param rows: rows of one model
    :param detectors: columns
    :param against_id: ID or OOD images as negatives
    :return: a line for each attack
    """
    values = means(rows, against_id)
    facts = rows.drop_duplicates("attack").set_index("attack")
    lines = [["kind", "attack", "succeeded", "L∞", "RMS", *detectors]]
    for attack, own in values.iterrows():
        fact = facts.loc[attack]
        sizes = ["", ""] if fact["succeeded"] == 0 else [f"{fact['linf']:.0f}"]
        sizes += [] if fact["succeeded"] == 0 else [f"{fact['rms']:.2f}"]
        cells = [fact["kind"], str(attack), f"{fact['succeeded']} of {fact['attacked']}", *sizes]
        lines.append([*cells, *(_number(own[d], own[detectors].max()) for d in detectors)])
    return markdown(lines)


def _number(value: float, best: float) -> str:
    if np.isnan(value):
        return ""
    return f"**{value:.3f}**" if value == best else f"{value:.3f}"


def blind_spots(rows: DataFrame, detectors: list[str]) -> str:
    """
    :param rows: rows of one model
    :param detectors: who may see what the recommended detector does not
    :return: a line for each attack that it does not tell from ID
    """
    values = means(rows, against_id=True)[detectors]
    blind = values[values[OURS[0]] < _BLIND]
    lines = [
        f"- {attack} ({own[OURS[0]]:.2f}): best {own.idxmax()} {own.max():.2f}"
        for attack, own in blind.iterrows()
    ]
    head = f"Where {OURS[0]} is blind (ID-vs-ADV below {_BLIND}), and who sees most:"
    return f"{head}\n\n" + ("\n".join(lines) or "- nowhere")


def draw(results: DataFrame, path: Path) -> None:
    """
    :param results: rows of ``threats.csv``
    :param path: where the figure is written: heat maps of AUROC, two for each model
    """
    detectors = [*OURS, *best_of_theirs(results)]
    models = list(results["model"].unique())
    longest = max(results.groupby("model")["attack"].nunique())
    figure, axes = plt.subplots(
        len(models),
        2,
        figsize=(11, 1.2 + 0.32 * longest * len(models)),
        squeeze=False,
        layout="constrained",
    )
    for line, model in zip(axes, models, strict=True):
        rows = results[results["model"] == model]
        for axis, against_id in zip(line, (True, False), strict=True):
            values = means(rows, against_id).reindex(columns=detectors)
            _heat_map(axis, values)
            axis.set_title(f"{model}: {'ID' if against_id else 'OOD'}-vs-ADV", fontsize=10)
        line[1].set_yticklabels([])
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _heat_map(axis: plt.Axes, values: DataFrame) -> None:
    axis.imshow(values.to_numpy(), cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(values.shape[1]), values.columns, rotation=40, ha="right", fontsize=8)
    axis.set_yticks(range(values.shape[0]), values.index, fontsize=8)
    for row, column in np.argwhere(values.notna().to_numpy()):
        value = values.iloc[row, column]
        color = "white" if abs(value - 0.5) > 0.35 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=7)
