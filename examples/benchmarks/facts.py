"""The means over the tables of ``real_run.py``: who separates what, and at what cost.

.. code-block:: bash

    python examples/benchmarks/facts.py examples/benchmarks/results/*-3x3.csv
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas
from pandas import DataFrame
from tables import markdown

__all__ = ["NOISE", "facts"]

NOISE = ("uniform_noise", "gaussian_noise")
_READ = (
    "AUROC, mean over the natural OOD sets and the attacks, not folded: below 0.5, the scores are "
    "the wrong way round, and who knows that has one minus the value. *Noise*: noise images as "
    "OOD. *ms*: milliseconds an image, by itself on one core. Published, on other data and so to "
    "be read only side by side: logit scores 0.79-0.81 on OOD-vs-ADV and at most 0.66 on "
    "ID-vs-ADV, the published method 0.844 and 0.980."
)


def means(rows: DataFrame) -> DataFrame:
    """
    :param rows: rows of the benchmark of one classifier; those with errors are left out
    :return: a row for each detector
    """
    rows = rows[rows["Error"].isna()]
    noise, by_name = rows["Dataset"].isin(NOISE), rows.groupby("Detector")
    groups = {
        "OOD-vs-ADV": rows[(rows["Task"] == "T3") & ~noise],
        "ID-vs-ADV": rows[rows["Task"] == "T2"],
        "noise": rows[(rows["Task"] == "T3") & noise],
    }
    areas = {name: own.groupby("Detector")["AUROC"].mean() for name, own in groups.items()}
    return DataFrame(areas | {"ms": 1000 * by_name["SecondsPerImage"].first()})


def facts(tables: Sequence[Path]) -> str:
    """
    :param tables: CSV files that the benchmark wrote
    :return: Markdown: means of all detectors, a column for each classifier, the best first
    """
    found = pandas.concat({path.stem: means(pandas.read_csv(path)) for path in tables}, axis=1)
    first = found.columns[0]
    lines = [["detector", *(f"{what}, {name}" for name, what in found.columns)]]
    for detector, values in found.sort_values(first, ascending=False).iterrows():
        cells = ("–" if value != value else f"{value:.3f}" for value in values)
        lines.append([str(detector), *cells])
    return f"# All detectors on {len(tables)} classifiers\n\n{_READ}\n\n{markdown(lines)}\n"


if __name__ == "__main__":
    print(facts([Path(name) for name in sys.argv[1:]]))
