"""The paragraph of facts about a run of ``real_run.py``, computed from its tables alone.

.. code-block:: bash

    python examples/benchmarks/facts.py examples/benchmarks/results/*.csv
"""

import csv
import math
import sys
from pathlib import Path

from pytorch_ood_viyog.evaluation.rows import Row, mean_auroc

NOISE = ("uniform_noise", "gaussian_noise")
OURS = ("Viyog", "ViyogTV", "ViyogResidue")
GOOD = 0.85
PUBLISHED = (
    "Published, on other data and so to be read only side by side: logit scores 0.79-0.81 on T3 "
    "and at most 0.66 on T2, the published method 0.844 on T3 and 0.980 on T2."
)


def read_rows(path: Path) -> list[Row]:
    """
    :param path: CSV file that the benchmark wrote
    :return: its rows, numbers as numbers
    """
    texts = ("Detector", "Task", "Dataset", "Attack", "Error")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: v if name in texts else float(v or "nan") for name, v in row.items()}
            for row in csv.DictReader(file)
        ]


def means(rows: list[Row], task: str, noise: bool = False) -> dict[str, float]:
    """
    :param rows: rows of the benchmark
    :param task: ``"T1"``, ``"T2"`` or ``"T3"``
    :param noise: take the noise images instead of the natural OOD sets
    :return: detector -> mean AUROC, detectors that failed left out
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["Task"] == task and (row["Dataset"] in NOISE) == noise:
            groups.setdefault(row["Detector"], []).append(row)
    found = {detector: mean_auroc(group) for detector, group in groups.items()}
    return {detector: mean for detector, mean in found.items() if not math.isnan(mean)}


def facts(name: str, rows: list[Row]) -> str:
    """
    :param name: name of the run
    :param rows: its rows
    :return: who separates OOD from ADV, who does not, and at what cost
    """
    natural = {r["Dataset"] for r in rows if r["Dataset"]} - set(NOISE)
    attacks = {r["Attack"] for r in rows if r["Attack"]}
    failed = sorted({r["Detector"] for r in rows if r["Error"]})
    head = (
        f"**{name}.** {len({r['Detector'] for r in rows})} detectors, {len(natural)} natural OOD "
        f"sets, {len(attacks)} attacks; mean AUROC over the natural sets and the attacks, not "
        f"folded. Failed: {', '.join(failed) or 'none'}."
    )
    return " ".join([head, _separation(rows), _reversed(rows), _noise(rows), _cost(rows)])


def _separation(rows: list[Row]) -> str:
    t2, t3 = means(rows, "T2"), means(rows, "T3")
    ranked = sorted(t3, key=lambda detector: -t3[detector])
    best, rival = ranked[0], next(detector for detector in ranked if detector not in OURS)
    t2_rival = max((d for d in t2 if d not in OURS), key=lambda detector: t2[detector])
    pairs = [r for r in rows if (r["Task"], r["Detector"]) == ("T3", best)]
    worst = min((r for r in pairs if r["Dataset"] not in NOISE), key=lambda r: r["AUROC"])
    both = [d for d in ranked if min(t2[d], t3[d]) >= GOOD]
    ours = ", ".join(f"{d} {t3[d]:.3f} / {t2[d]:.3f}" for d in OURS)
    return (
        f"OOD-vs-ADV (T3): {best} is first with {t3[best]:.3f}, its hardest pair "
        f"{worst['Dataset']} against {worst['Attack']} with {worst['AUROC']:.3f} "
        f"[{worst['AUROC low']:.3f}, {worst['AUROC high']:.3f}]; the best of the others is "
        f"{rival} with {t3[rival]:.3f}. ID-vs-ADV (T2): the best of the others is {t2_rival} with "
        f"{t2[t2_rival]:.3f}. T3 / T2 of the first-layer detectors: {ours}. At least {GOOD} on "
        f"both: {', '.join(both) or 'none'}."
    )


def _reversed(rows: list[Row]) -> str:
    t2, t3 = means(rows, "T2"), means(rows, "T3")
    below = sorted((d for d in t3 if t3[d] < 0.5), key=lambda detector: t3[detector])
    if not below:
        return "No detector is below 0.5 on T3."
    both = [d for d in below if t2[d] >= GOOD and 1 - t3[d] >= GOOD]
    listed = ", ".join(f"{d} ({1 - t3[d]:.3f} on T3, {t2[d]:.3f} on T2)" for d in both)
    return (
        f"{len(below)} detectors are below 0.5 on T3: to them ADV looks more like ID than OOD "
        f"does. Who knows that and turns them round has {1 - t3[below[0]]:.3f} from {below[0]} on "
        f"T3, whose T2 is {t2[below[0]]:.3f}; turned round, at least {GOOD} on both: "
        f"{listed or 'none'}."
    )


def _noise(rows: list[Row]) -> str:
    t3 = means(rows, "T3", noise=True)
    best = max(t3, key=lambda detector: t3[detector])
    ours = ", ".join(f"{d} {t3[d]:.3f}" for d in OURS)
    return f"With noise images as OOD, T3: {ours}; the highest is {best} with {t3[best]:.3f}."


def _cost(rows: list[Row]) -> str:
    costs = {row["Detector"]: 1000 * row["SecondsPerImage"] for row in rows}
    names = [name for name in (*OURS, "Energy", "kNN", "Gram") if name in costs]
    listed = ", ".join(f"{name} {costs[name]:.2f}" for name in names)
    return f"Milliseconds per image, by itself on one core: {listed}."


def main() -> None:
    """Prints the facts of the CSV files named on the command line."""
    files = [Path(name) for name in sys.argv[1:]]
    print("\n\n".join([*(facts(file.stem, read_rows(file)) for file in files), PUBLISHED]))


if __name__ == "__main__":
    main()
