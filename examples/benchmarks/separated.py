"""How well ADV is separated from ID and from OOD: rows, tables and a figure, a column a model."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
from pandas import DataFrame
from tables import markdown
from targets import Target, Value
from torch import Tensor

from pytorch_ood_viyog import viyog_metrics
from pytorch_ood_viyog.benchmark.attacks import AdversarialExamples

matplotlib.use("Agg")
import matplotlib.pyplot as plt

__all__ = [
    "NOISE",
    "against_id",
    "against_ood",
    "draw",
    "metric_rows",
    "report",
    "size_rows",
    "worst",
]

#: what is not natural among the OOD sets
NOISE = ("uniform_noise", "gaussian_noise")
_COLOURS = ("#0072b2", "#f0e442", "#56b4e9", "#7f7f7f", "#d55e00", "#009e73", "#cc79a7")

Rows = list[dict[str, object]]
Read = Callable[[DataFrame], Value | None]


def metric_rows(
    model: str,
    scores: Mapping[str, Mapping[str, Tensor]],
    attacks: Iterable[str],
    ood: Sequence[str],
) -> Rows:
    """
    :param model: name of the classifier
    :param scores: detector -> ``"id"``, attack or OOD set -> scores
    :param attacks: names of attacks; those without a success have no rows
    :param ood: names of OOD sets
    :return: a row for each detector, attack and set of negatives (``id`` or an OOD set)
    """
    rows: Rows = []
    for detector, own in scores.items():
        for attack in (name for name in attacks if len(own[name])):
            for negative in ("id", *ood):
                metrics = viyog_metrics(own[negative], own[attack])
                row = {"model": model, "detector": detector, "attack": attack}
                row |= {"negatives": negative, "n_negatives": len(own[negative])}
                row |= {"n_adv": len(own[attack])}
                rows.append(row | {m: float(metrics[m]) for m in ("AUROC", "FPR95")})
    return rows


def size_rows(model: str, examples: Mapping[str, AdversarialExamples]) -> Rows:
    """:return: a row for each attack: how often it succeeded, and by what change"""
    names = ("attacked", "succeeded", "linf", "rms")
    return [
        {"model": model, "attack": attack} | {name: getattr(found.size, name) for name in names}
        for attack, found in examples.items()
    ]


def natural(rows: DataFrame) -> DataFrame:
    """:return: the rows against natural OOD sets"""
    return rows[~rows["negatives"].isin(["id", *NOISE])]


def against_ood(attack: str, metric: str = "AUROC") -> Read:
    """:return: reads the mean over natural OOD sets"""
    return lambda rows: _mean(natural(rows[rows["attack"] == attack])[metric])


def against_id(attack: str) -> Read:
    """:return: reads the AUROC of ID-vs-ADV"""
    chosen = {"attack": attack, "negatives": "id"}
    return lambda rows: _mean(rows[(rows[[*chosen]] == [*chosen.values()]).all(axis=1)]["AUROC"])


def _mean(found: DataFrame) -> Value | None:
    return Value(float(found.mean())) if len(found) else None


def worst(attacks: Sequence[str] = (), *, noise: bool = False) -> Read:
    """:return: reads the least AUROC of natural OOD sets, or of noise images, against these
    attacks, all by default"""

    def read(rows: DataFrame) -> Value | None:
        rows = rows[rows["negatives"].isin(NOISE)] if noise else natural(rows)
        rows = rows[rows["attack"].isin(attacks)] if attacks else rows
        if rows.empty:
            return None
        lowest = rows.loc[rows["AUROC"].idxmin()]
        return Value(float(lowest["AUROC"]), f"{lowest['negatives']}, {lowest['attack']}")

    return read


def report(
    about: str, results: DataFrame, attacks: DataFrame, targets: Sequence[Target], figure: str
) -> str:
    """
    :param about: heading and how the numbers were made
    :param results: of :func:`metric_rows`, the recommended detector first
    :param attacks: of :func:`size_rows`
    :param targets: what the recommended detector is to reach
    :param figure: file of :func:`draw`
    :return: the report in Markdown
    """
    recommended = results["detector"].iloc[0]
    return "\n\n".join(
        [
            about,
            f"## {recommended} against the targets",
            _targets(results[results["detector"] == recommended], targets),
            "## OOD-vs-ADV\n\nAUROC by attack, mean over natural OOD sets (the worst of them).",
            *_by_model(natural(results)),
            "## ID-vs-ADV\n\nAUROC by attack.",
            *_by_model(results[results["negatives"] == "id"]),
            "## Attacks\n\nSize of the successful perturbations: largest change and root mean "
            "square, in units of 1/255. An attack without any success has no row above.",
            _sizes(attacks),
            f"![AUROC by attack, model and detector]({figure})\n",
        ]
    )


def _targets(rows: DataFrame, targets: Sequence[Target]) -> str:
    models = list(rows["model"].unique())
    lines, total, met = [["target", *models]], 0, 0
    for target in targets:
        at_most = target.high < math.inf
        asked = f"{'≤' if at_most else '≥'} {target.high if at_most else target.low:g}"
        values = [target.read(rows[rows["model"] == model]) for model in models]
        total += sum(value is not None for value in values)
        met += sum(value is not None and target.met(value) for value in values)
        lines.append([f"{target.name} {asked}", *map(target.cell, values)])
    return f"{met} of {total} met; what is missed stands in bold.\n\n{markdown(lines)}"


def _by_model(rows: DataFrame) -> list[str]:
    return [
        f"**{model}**\n\n{auroc_table(rows[rows['model'] == model])}"
        for model in rows["model"].unique()
    ]


def auroc_table(rows: DataFrame) -> str:
    """
    :param rows: rows of one model, of one kind of negatives
    :return: detectors × attacks; the best in bold
    """
    attacks, several = rows["attack"].unique(), rows["negatives"].nunique() > 1
    found = rows.groupby(["detector", "attack"])["AUROC"].agg(["mean", "min"])
    best = {a: f"{found['mean'][:, a].max():.3f}" for a in attacks}
    lines = [["", *attacks]]
    for detector in rows["detector"].unique():
        cells = []
        for attack in attacks:
            text = f"{found['mean'][detector, attack]:.3f}"
            text = f"**{text}**" if text == best[attack] else text
            low = f" ({found['min'][detector, attack]:.2f})" if several else ""
            cells.append(text + low)
        lines.append([detector, *cells])
    return markdown(lines)


def _sizes(attacks: DataFrame) -> str:
    lines = [["model", "attack", "attacked", "succeeded", "L∞", "RMS"]]
    for row in attacks.itertuples():
        sizes = [f"{row.linf:.1f}", f"{row.rms:.2f}"] if row.succeeded else ["", ""]
        lines.append([row.model, row.attack, str(row.attacked), str(row.succeeded), *sizes])
    return markdown(lines)


def draw(results: DataFrame, path: Path, shown: Sequence[str]) -> None:
    """
    :param results: of :func:`metric_rows`
    :param path: where the figure is written: AUROC by attack, a column for each model
    :param shown: detectors
    """
    models = list(results["model"].unique())
    size = (max(3 * len(models), 5) + 2, 6)
    figure, axes = plt.subplots(
        2, len(models), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for column, model in enumerate(models):
        rows = results[results["model"] == model]
        axes[0, column].set_title(model, fontsize=11)
        _panel(axes[0, column], natural(rows), shown)
        _panel(axes[1, column], rows[rows["negatives"] == "id"], shown)
    axes[0, 0].set_ylabel("AUROC OOD-vs-ADV")
    axes[1, 0].set_ylabel("AUROC ID-vs-ADV")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=4, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _panel(axis: plt.Axes, rows: DataFrame, shown: Sequence[str]) -> None:
    """A line for the mean over the negatives, a point for each of them."""
    attacks = list(rows["attack"].unique())
    for detector, colour in zip(shown, _COLOURS, strict=False):
        own = rows[rows["detector"] == detector]
        means = own.groupby("attack")["AUROC"].mean().reindex(attacks)
        axis.plot(means.to_numpy(), "-", color=colour, lw=1.5, label=detector)
        places = own["attack"].map(attacks.index)
        axis.plot(places, own["AUROC"], "o", color=colour, ms=3, alpha=0.5, mew=0)
    axis.axhline(0.5, color="0.3", lw=0.8, ls=":")
    axis.set_ylim(-0.02, 1.02)
    axis.grid(axis="y", color="0.92", lw=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xticks(range(len(attacks)), attacks, rotation=45)
