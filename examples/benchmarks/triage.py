"""How good are the verdicts ID, OOD, ADV, NOISY? All gates alone and combined, set on ID alone.

.. code-block:: bash

    python examples/benchmarks/triage.py --data DATA_FOLDER

Models and attacks come from ``prepare.py``'s cache, or are made now. Detectors are fitted on the
images the classifier was trained on (CIFAR-10: on other images); the test images, which it never
saw, are halved at random: one half sets the thresholds, the other half is judged, together with
the OOD sets and the successful attacks on images of that other half. All numbers are means over
the halvings.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from prepare import CONFIGS
from triage_scores import ALARM, GATES, INTENT, OUTLIER, ROUTER, load_scores
from triage_tables import Rule, evaluate, evaluate_lda, mean, print_table

RECOMMENDED = ("Energy", "fDBD", OUTLIER)
PANEL = ("Energy", "fDBD", "kNN", "ViM", OUTLIER)
COMBINATIONS = (
    ("Energy", OUTLIER),
    ("fDBD", OUTLIER),
    ("Energy", "fDBD"),
    ("Energy", "ViM"),
    ("Energy", "kNN"),
    ("Energy", "fDBD", "kNN"),
    ("Energy", "fDBD", "ViM"),
    ("Energy", "kNN", OUTLIER),
    ("Energy", "ViM", OUTLIER),
    RECOMMENDED,
    ("Energy", "fDBD", "ViM", OUTLIER),
    ("Energy", "fDBD", "kNN", OUTLIER),
    ("Energy", "fDBD", "kNN", "ViM", OUTLIER),
)


def residue(gates: tuple[str, ...], **options: Any) -> Rule:
    """:return: the rule of ``Triage`` for a router of the kind ``ViyogResidue``"""
    return Rule(gates, ROUTER, ALARM, **options)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npz files")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    models = [name for name in CONFIGS if not name.endswith("quick")]
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=models)
    parser.add_argument("--halvings", type=int, default=20, help="default: 20")
    parser.add_argument("--quick", action="store_true", help="one model, two halvings")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.configs, arguments.halvings = ["gtsrb-3x3"], 2
    scores = {n: load_scores(n, arguments.data, arguments.cache) for n in arguments.configs}

    def table(title: str, rules: dict[str, Rule]) -> None:
        rows = {}
        for label, rule in rules.items():
            rows[label] = mean([evaluate(s, rule, arguments.halvings) for s in scores.values()])
        print_table(title, rows)

    alone = {gate: residue((gate,)) for gate in (*GATES, OUTLIER)}
    table(f"one gate, router {ROUTER}, mean of {list(scores)}", alone)
    for combine in ("fused", "any"):
        rules = {"+".join(g): residue(g, combine=combine) for g in COMBINATIONS}
        table(f"several gates, {combine}, router {ROUTER}", rules)
    shares = {
        f"router share {s}": residue(RECOMMENDED, share=s)
        for s in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    }
    table(f"{'+'.join(RECOMMENDED)}, fused", shares)
    parts = {
        "alarm: router's score, ADV: its alarm": Rule(RECOMMENDED, ROUTER, ROUTER, by_least=False),
        "alarm: router's score, ADV: least_adv": Rule(RECOMMENDED, ROUTER, ROUTER),
        f"alarm: {ALARM}, ADV: its alarm": residue(RECOMMENDED, by_least=False),
        f"alarm: {ALARM}, ADV: least_adv": residue(RECOMMENDED),
    }
    table(f"{'+'.join(RECOMMENDED)}, fused: what the parts of the rule bring", parts)
    verdicts = {
        "three verdicts": residue(RECOMMENDED),
        "four verdicts": residue(RECOMMENDED, intent=INTENT),
    }
    table(f"{'+'.join(RECOMMENDED)}, fused: with {INTENT} and without", verdicts)
    published = Rule(("Energy",), "ViyogTV", "ViyogTV", by_least=False)
    gate = {
        "Energy, ViyogTV": published,
        "Energy, ViyogTV, published gate": replace(published, combine="max"),
        f"Energy, {ROUTER}, published gate": residue(("Energy",), combine="max"),
        f"{'+'.join(RECOMMENDED)}, published gate": residue(RECOMMENDED, combine="max"),
    }
    table("the published router and gate", gate)
    seen = [("Energy", ROUTER), (*RECOMMENDED, ROUTER), (*PANEL, ALARM, ROUTER)]
    for id_fpr, text in ((None, ""), (0.05, ", at 5 % ID alarms")):
        lda = {
            "+".join(names): mean(
                [evaluate_lda(s, names, arguments.halvings, id_fpr) for s in scores.values()]
            )
            for names in seen
        }
        title = f"supervised: LDA that is shown half of the OOD images and attacks{text}"
        print_table(title, lda)
        rows = {
            n: evaluate_lda(s, seen[-1], arguments.halvings, id_fpr) for n, s in scores.items()
        }
        print_table(f"the last of these, by ID set and stem{text}", rows)
    rows = {n: evaluate(s, residue(RECOMMENDED), arguments.halvings) for n, s in scores.items()}
    print_table(f"{'+'.join(RECOMMENDED)}, fused, by ID set and stem", rows)
    by_set = mean_by_set(rows)
    print_table("the same by ID set", by_set | {"mean": mean(list(by_set.values()))})


def mean_by_set(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """:return: ID set -> mean of the rows of its models; a set counts once, at any resolution"""
    models: dict[str, list[dict[str, float]]] = {}
    for name, row in rows.items():
        models.setdefault(CONFIGS[name].images.removesuffix("_64"), []).append(row)
    return {images: mean(found) for images, found in models.items()}


if __name__ == "__main__":
    main()
