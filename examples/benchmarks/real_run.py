"""Every detector on GTSRB and photo15: three tasks, natural and noise OOD sets, seven attacks.

.. code-block:: bash

    python examples/benchmarks/real_run.py --data DATA_FOLDER

Models and attacks come from the cache of ``prepare.py``, or are made now. For each configuration
it writes a table of all rows (CSV), tables of AUROC (Markdown), the figures, and a scan of all
layers; ``facts.md`` has the means over all of it.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas
from facts import NOISE, facts
from images import fit_images, test_images
from options import benchmark_parser
from prepare import ATTACKS, CONFIGS, QUICK, load_model, load_ood
from tables import save_page
from torch.utils.data import ConcatDataset, DataLoader, Subset

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark.baselines.build import baseline_detectors
from pytorch_ood_viyog.benchmark.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.evaluation.plotting import plot_layer_scan
from pytorch_ood_viyog.pipeline.scan import layer_scan

COLUMNS = (
    *("Detector", "Task", "Dataset", "Attack", "Negatives", "Positives"),
    *("AUROC", "AUROC low", "AUROC high", "AUPR-IN", "AUPR-OUT", "FPR95TPR", "AUTC"),
    *("SecondsPerImage", "Error"),
)
ATTACKED = 400  # as prepare.py attacks, so that its cache serves


def benchmark(
    name: str, data: Path, cache: Path, attacks: Iterable[str], id_images: int, ood_images: int
) -> AdversarialBenchmark:
    """
    :param name: a key of ``prepare.CONFIGS``
    :param attacks: keys of ``prepare.ATTACKS``
    :param id_images: ID test images, of which at most ``ATTACKED`` are attacked
    :param ood_images: images of each OOD set
    :return: the benchmark of one classifier
    """
    images = CONFIGS[name].images
    fit, test = fit_images(images, data), test_images(images, data)[:id_images]
    return AdversarialBenchmark(
        load_model(name, data, cache),
        (test.x, test.y),
        {ood: x[:ood_images] for ood, x in load_ood(name, data).items()},
        {attack: ATTACKS[attack] for attack in attacks},
        id_train=(fit.x, fit.y),
        attacked=ATTACKED,
        cache=cache / "attacks" / name,
        resamples=200,
    )


def run(name: str, bench: AdversarialBenchmark, out: Path, names: list[str] | None) -> Path:
    """
    :param name: a key of ``prepare.CONFIGS``, and of the files written
    :param bench: its benchmark
    :param out: folder for tables and figures
    :param names: baselines to run, all by default
    :return: the table of all rows
    """
    model = bench.model
    detectors = {
        "Viyog": Viyog(model, bounded=False),  # the same ranks as bounded, but scores to look at
        "ViyogTV": ViyogTV(model),
        "ViyogResidue": ViyogResidue(model),
    }
    x, _ = next(iter(DataLoader(bench.id_test, batch_size=2)))
    bench.evaluate(detectors | baseline_detectors(model, x, names), fit=True)
    table, text = bench.save(out / name)
    slim(table)
    save_page(text, text.read_text(encoding="utf-8"), __file__)
    for file in [table, text, *bench.plot(out / name), *scan(name, bench, out)]:
        print(file, flush=True)
    return table


def slim(table: Path) -> None:
    """Leaves the columns in ``table`` that are worth keeping under version control."""
    rows = pandas.read_csv(table, dtype=str, keep_default_na=False)
    rows[list(COLUMNS)].to_csv(table, index=False)


def scan(name: str, bench: AdversarialBenchmark, out: Path) -> list[Path]:
    """
    :return: figures of where in the network the natural OOD sets and the attacks part
    """
    sets = dict(zip(bench.ood_names, bench.test_sets(known=False), strict=True))
    natural = [n for n in bench.ood if n not in NOISE]
    ood = ConcatDataset([Subset(sets[n], range(min(50, len(sets[n])))) for n in natural])
    adversarial = ConcatDataset([sets[n] for n in bench.attacks])
    fit = Subset(bench.train_set(), range(min(500, len(bench.train_set()))))
    files = []
    for statistic in ("energy", "residue"):
        id_loader = DataLoader(fit, batch_size=100) if statistic == "residue" else None
        loaders = (DataLoader(images, batch_size=100) for images in (ood, adversarial))
        rows = layer_scan(bench.model, *loaders, statistic, fit_loader=id_loader)
        title = f"{name} by {statistic}; above 0.5: larger for ADV than for OOD"
        files.append(plot_layer_scan(rows, out / f"{name}_layers_{statistic}.png", title))
    return files


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    configs = ["gtsrb-3x3", "photo15-3x3"]
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=configs)
    parser.add_argument("--quick", action="store_true", help="one small model, to try it out")
    options = parser.parse_args()
    attacks, names, sizes = list(ATTACKS), None, (600, 200)
    if options.quick:
        options.configs, attacks, sizes = [QUICK], ["fgsm8", "pgd8"], (100, 40)
        names = ["MSP", "Energy", "Mahalanobis", "kNN"]
    tables = []
    for name in options.configs:
        bench = benchmark(name, options.data, options.cache, attacks, *sizes)
        tables.append(run(name, bench, options.out, names))
    text = facts(tables)
    save_page(options.out / "facts.md", text, __file__)
    print(text)


if __name__ == "__main__":
    main()
