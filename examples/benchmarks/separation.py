"""How well the detectors separate ADV from OOD and from ID, against the project's targets.

.. code-block:: bash

    python examples/benchmarks/separation.py --data DATA_FOLDER

Runs from raw images: classifiers are trained and attacks are crafted where the cache folder does
not hold them. Every step is stored when it is done; an interrupted run goes on where it stopped.
What a detector costs an attacker who knows it is measured by ``evasion.py``, what becomes of
benign changes by ``verdicts.py``.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas
from options import benchmark_parser
from prepare import ATTACKS, BENCHMARK, CONFIGS, QUICK
from separation_figure import draw
from separation_report import main_report
from separation_scores import Scores, Setting, describe, load_scores, load_setting
from tables import save_page

from pytorch_ood_viyog.evaluation.metrics import viyog_metrics

_METRICS = ("AUROC", "FPR95", "AUPR_ADV", "AUPR_OOD", "DetectionError")


def metric_rows(setting: Setting, scores: Scores) -> list[dict[str, object]]:
    """:return: a row for each detector, attack and set of negatives (``id`` or an OOD set)"""
    rows = []
    negatives = ["id", *(group for group in setting.groups() if group.startswith("ood/"))]
    for detector, by_group in scores.items():
        for attack in setting.adv:
            adv = by_group[f"adv/{attack}"]
            for negative in negatives if len(adv) else ():
                metrics = viyog_metrics(by_group[negative], adv)
                rows.append(
                    {
                        "config": setting.name,
                        "detector": detector,
                        "attack": attack,
                        "negatives": negative.removeprefix("ood/"),
                        "n_negatives": len(by_group[negative]),
                        "n_adv": len(adv),
                    }
                    | {name: float(metrics[name]) for name in _METRICS}
                )
    return rows


def write(rows: list[dict[str, object]], path: Path) -> pandas.DataFrame:
    """Writes the rows as CSV; :return: them as a table."""
    table = pandas.DataFrame(rows)
    table.to_csv(path, index=False, float_format="%.5g")
    return table


def run(settings: Iterator[Setting], arguments: argparse.Namespace) -> str:
    """:return: the Markdown report; writes its CSV files and figure"""
    rows, sizes = [], []
    for setting in settings:
        rows += metric_rows(setting, load_scores(setting, arguments.cache, arguments.fresh))
        sizes += describe(setting)
    results = write(rows, arguments.out / "separation.csv")
    attacks = write(sizes, arguments.out / "separation_attacks.csv")
    draw(results, arguments.out / "separation.png")
    return main_report(results, attacks)


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=BENCHMARK)
    parser.add_argument("--fresh", action="store_true", help="use no stored scores")
    parser.add_argument("--quick", action="store_true", help="one model, two attacks, 100 images")
    arguments = parser.parse_args()
    attacks, n = list(ATTACKS), 400
    if arguments.quick:
        arguments.configs, attacks, n = [QUICK], ["fgsm8", "pgd8"], 100
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = (
        load_setting(name, arguments.data, arguments.cache, attacks, n)
        for name in arguments.configs
    )
    report = run(settings, arguments)
    path = save_page(arguments.out / "separation.md", report, __file__)
    print(f"{report}\nwritten to {path}", flush=True)


if __name__ == "__main__":
    main()
