"""
Figures of the benchmark. Needs matplotlib, which the extra ``examples`` brings.
"""

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .rows import PIVOTS, TASKS, Row, Scores, mean_auroc, pivot

__all__ = ["plot_auroc", "plot_scores", "pyplot", "write_figure"]

_COLOURS = {"ID": "#4477aa", "OOD": "#ccbb44", "ADV": "#ee6677", "NOISY": "#aa3377"}
_DPI = 110


def plot_auroc(rows: Sequence[Row], path: str | Path, title: str = "") -> Path:
    """
    Heat maps of AUROC, detectors × OOD sets or attacks, for the tasks but T4. White is 0.5, red
    above it, blue below: a blue cell is separated too, in the reversed order.

    :param rows: rows of :class:`~pytorch_ood_viyog.benchmark.benchmark.AdversarialBenchmark`
    :param path: PNG file to write; folders are made
    :param title: heading
    :return: the file
    :raises ImportError: if matplotlib is not installed
    """
    plt = pyplot()
    tables = [(t, note, pivot(rows, t, column)) for t, column, note in PIVOTS if t != "T4"]
    tables = [table for table in tables if table[2]]
    detectors = list(tables[0][2])
    columns = [len(next(iter(cells.values()))) + 1 for _, _, cells in tables]
    across = min(2, len(tables))
    down = math.ceil(len(tables) / across)
    widths = [max(columns[i::across]) for i in range(across)]
    # headings need room where there are few columns
    size = (2.4 + max(0.43 * sum(widths), 3.2 * across), down * (1.5 + 0.22 * len(detectors)))
    figure, axes = plt.subplots(
        down, across, figsize=size, width_ratios=widths, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
    for axis, (task, note, cells) in zip(axes.flat, tables, strict=False):
        _heat_map(axis, rows, task, cells)
        axis.set_title(f"{task} {TASKS[task]} {note}", fontsize=9)
        first = axis in axes[:, 0]
        axis.set_yticks(range(len(detectors)), detectors if first else [], fontsize=8)
    figure.suptitle(f"{title} AUROC (not folded)".strip(), fontsize=10)
    return write_figure(plt, figure, path)


def _heat_map(axis: Any, rows: Sequence[Row], task: str, cells: Mapping[str, Any]) -> None:
    columns = [*next(iter(cells.values())), "mean"]
    values = [
        [*own.values(), mean_auroc(r for r in rows if (r["Task"], r["Detector"]) == (task, name))]
        for name, own in cells.items()
    ]
    axis.imshow(values, cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            text = "–" if math.isnan(value) else f"{value:.2f}".replace("0.", ".", 1)
            colour = "white" if abs(value - 0.5) > 0.37 else "black"
            axis.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    axis.axvline(len(columns) - 1.5, color="black", linewidth=0.8)
    axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def plot_scores(
    scores: Scores, kinds: Mapping[str, Sequence[str]], path: str | Path, title: str = ""
) -> Path:
    """
    Distributions of the scores of each detector on ID, OOD and ADV images (and NOISY ones), all
    OOD sets and all attacks together. Scores far outside of the middle half, by four times its
    width, are drawn at the ends of the axis.

    :param scores: detector -> name of the images -> scores, or an error as text
    :param kinds: ``"ID"``, ``"OOD"``, ``"ADV"`` and ``"NOISY"``, those that there are, with the
        names of their images
    :param path: PNG file to write; folders are made
    :param title: heading
    :return: the file
    :raises ImportError: if matplotlib is not installed
    """
    plt = pyplot()
    across = min(5, len(scores))
    down = math.ceil(len(scores) / across)
    figure, axes = plt.subplots(
        down,
        across,
        figsize=(2.3 * across, 0.5 + 1.35 * down),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(scores) :]:
        axis.set_visible(False)
    for axis, (detector, own) in zip(axes.flat, scores.items(), strict=False):
        axis.set_title(detector, fontsize=8, pad=3)
        axis.set_yticks([])
        axis.tick_params(labelsize=6, length=2, pad=1)
        axis.xaxis.set_major_locator(plt.MaxNLocator(4))
        axis.spines[["top", "left", "right"]].set_visible(False)
        _densities(axis, own, kinds)
    handles = [plt.Rectangle((0, 0), 1, 1, color=_COLOURS[kind], alpha=0.6) for kind in kinds]
    figure.legend(handles, list(kinds), loc="outside upper right", ncols=4, fontsize=8)
    figure.suptitle(f"{title} scores".strip(), fontsize=10)
    return write_figure(plt, figure, path)


def _densities(axis: Any, own: Mapping[str, Any], kinds: Mapping[str, Sequence[str]]) -> None:
    pooled = {}
    for kind, names in kinds.items():
        found = [s.numpy() for n in names if isinstance(s := own.get(n), Tensor) and len(s)]
        finite = np.concatenate(found) if found else np.empty(0)
        pooled[kind] = finite[np.isfinite(finite)].astype(np.float64)
    together = np.concatenate(list(pooled.values()))
    if together.size == 0:
        axis.text(0.5, 0.5, "failed", ha="center", transform=axis.transAxes, fontsize=8)
        return
    edges = _bins(together)
    for kind, values in pooled.items():
        if values.size:
            style = {"color": _COLOURS[kind], "density": True, "bins": edges}
            clipped = np.clip(values, edges[0], edges[-1])
            axis.hist(clipped, histtype="stepfilled", alpha=0.35, **style)
            axis.hist(clipped, histtype="step", linewidth=1.1, **style)


def _bins(values: NDArray[np.float64]) -> NDArray[np.float64]:
    first, low, high, last = np.quantile(values, [0.005, 0.25, 0.75, 0.995])
    reach = 4 * (high - low)
    start, end = max(first, low - reach), min(last, high + reach)
    return np.linspace(start, end if end > start else start + 1, 41)


def pyplot() -> Any:
    """:return: the module ``matplotlib.pyplot``; without a screen it draws into files"""
    try:
        import matplotlib

        matplotlib.use("agg", force=False)
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib: pip install 'pytorch-ood-viyog[examples]'"
        ) from error
    return plt


def write_figure(plt: Any, figure: Any, path: str | Path) -> Path:
    """:return: the PNG file that a figure is written to; folders are made, the figure is closed"""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=_DPI)
    plt.close(figure)
    # a palette: a third of the size for the same look. Pillow comes with matplotlib.
    image = import_module("PIL.Image").open(drawn).convert("RGB")
    image.quantize(128).save(path, optimize=True)
    return path
