"""How well the detectors separate ADV from OOD and from ID, against the project's targets.

.. code-block:: bash

    python examples/benchmarks/separation.py --data DATA_FOLDER

Runs from raw images: classifiers are trained and attacks are crafted where the cache folder does
not hold them. Every step is stored when it is done; an interrupted run goes on where it stopped.
What a detector costs an attacker who knows it is measured by ``evasion.py``, what becomes of
benign changes by ``verdicts.py``.
"""

from options import benchmark_parser
from prepare import ATTACKS, BENCHMARK, CONFIGS, QUICK
from separated import against_id, against_ood, draw, metric_rows, report, size_rows, worst
from separation_scores import load_scores, load_setting
from tables import keep, save_page
from targets import Target

TARGETS = (
    Target("OOD-vs-ADV, PGD 8/255", against_ood("pgd8"), low=0.995),
    Target("OOD-vs-ADV, BIM 8/255", against_ood("bim8"), low=0.995),
    Target("OOD-vs-ADV, FGSM 8/255", against_ood("fgsm8"), low=0.995),
    Target("OOD-vs-ADV, PGD 4/255", against_ood("pgd4"), low=0.99),
    Target("OOD-vs-ADV, PGD 2/255", against_ood("pgd2"), low=0.97),
    Target("worst OOD set, attacks of 8/255", worst(("pgd8", "bim8", "fgsm8")), low=0.98),
    Target("OOD-vs-ADV, DeepFool", against_ood("deepfool"), low=0.85),
    Target("OOD-vs-ADV, CW", against_ood("cw"), low=0.85),
    Target("ID-vs-ADV, PGD 8/255", against_id("pgd8"), low=0.99),
    Target("ID-vs-ADV, PGD 4/255", against_id("pgd4"), low=0.97),
    Target("noise images as OOD, worst attack", worst(noise=True), low=0.95),
    Target("FPR95 OOD-vs-ADV, PGD 8/255", against_ood("pgd8", "FPR95"), high=0.02),
)
ABOUT = """# Separation of ADV from OOD and ID

Made by `python examples/benchmarks/separation.py --data DATA_FOLDER --configs {configs}`.
Attacks are rounded to 8 bit and count where they still succeed; AUROC keeps its direction (below
0.5: the wrong way round); detectors are fitted on ID images that are not measured on. OOD-vs-ADV
is the mean over eight natural OOD sets."""


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=BENCHMARK)
    parser.add_argument("--fresh", action="store_true", help="use no stored scores")
    parser.add_argument("--quick", action="store_true", help="one model, two attacks, 100 images")
    options = parser.parse_args()
    attacks, n = list(ATTACKS), 400
    if options.quick:
        options.configs, attacks, n = [QUICK], ["fgsm8", "pgd8"], 100
    options.out.mkdir(parents=True, exist_ok=True)
    rows, sizes = [], []
    for name in options.configs:
        setting = load_setting(name, options.data, options.cache, attacks, n)
        scores = load_scores(setting, options.cache, options.fresh)
        # of the names of groups, what follows "adv/" and "ood/"
        named = {
            detector: {group.rpartition("/")[2]: found for group, found in own.items()}
            for detector, own in scores.items()
        }
        rows += metric_rows(name, named, attacks, list(setting.ood))
        sizes += size_rows(name, setting.adv)
    tables = []
    for found, file in ((rows, "separation.csv"), (sizes, "separation_attacks.csv")):
        (options.out / file).unlink(missing_ok=True)  # all rows are of this run
        tables.append(keep(found, options.out / file))
    draw(tables[0], options.out / "separation.png", list(tables[0]["detector"].unique()))
    about = ABOUT.format(configs=" ".join(options.configs))
    text = report(about, *tables, TARGETS, "separation.png")
    path = save_page(options.out / "separation.md", text, __file__)
    print(f"{text}\nwritten to {path}", flush=True)


if __name__ == "__main__":
    main()
