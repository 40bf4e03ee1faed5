"""The parts of the separation benchmark that its numbers rest on, without its data."""

import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
separated = import_module("separated")
TARGETS = import_module("separation").TARGETS
DETECTORS = ("ViyogResidue", "ViyogTV", "Viyog")


def rows(values, **columns):
    """Rows of ``separation.csv``: (attack, negatives) -> AUROC; FPR95 is 1 - AUROC."""
    return pandas.DataFrame(
        {"model": "c", "detector": DETECTORS[0], **columns}
        | {"attack": attack, "negatives": negatives, "AUROC": auroc, "FPR95": 1 - auroc}
        for (attack, negatives), auroc in values.items()
    )


RESULTS = {
    ("pgd8", "id"): 0.5,
    ("pgd8", "aerial"): 1.0,
    ("pgd8", "mri"): 0.9,
    ("fgsm8", "mri"): 0.8,
    ("deepfool", "mri"): 0.1,
    ("pgd8", "uniform_noise"): 0.25,
}


@pytest.mark.parametrize(
    ("target", "number", "where"),
    [
        ("OOD-vs-ADV, PGD 8/255", 0.95, ""),  # neither ID nor noise images take part
        ("worst OOD set, attacks of 8/255", 0.8, "mri, fgsm8"),  # DeepFool is none of 8/255
        ("ID-vs-ADV, PGD 8/255", 0.5, ""),
        ("noise images as OOD, worst attack", 0.25, "uniform_noise, pgd8"),
        ("FPR95 OOD-vs-ADV, PGD 8/255", 0.05, ""),
    ],
)
def test_targets_read_what_their_names_say(target, number, where):
    (found,) = (t for t in TARGETS if t.name == target)
    value = found.read(rows(RESULTS))
    assert value.number == pytest.approx(number)
    assert value.where == where


def test_targets_without_rows_have_no_value():
    assert not any(target.read(rows(RESULTS).iloc[:0]) for target in TARGETS)


def test_a_bound_from_above_is_met_below_it():
    (fpr,) = (target for target in TARGETS if target.name.startswith("FPR95"))
    value = import_module("targets").Value
    assert fpr.met(value(0.01))
    assert not fpr.met(value(0.03))


def test_report_counts_and_marks_what_is_missed():
    perfect = dict.fromkeys(RESULTS, 1.0) | {("pgd8", "id"): 0.5}
    table = pandas.concat([rows(perfect, detector=d) for d in DETECTORS])
    attacks = pandas.DataFrame(
        {"model": "c", "attack": a, "attacked": 4, "succeeded": 3, "linf": 8.0, "rms": 7.0}
        for a in ("fgsm8", "pgd8", "deepfool")
    )
    text = separated.report("# About", table, attacks, TARGETS, "figure.png")
    assert "6 of 7 met" in text
    assert "| ID-vs-ADV, PGD 8/255 ≥ 0.99 | **0.500** |" in text
    assert "| c | deepfool | 4 | 3 | 8.0 | 7.00 |" in text


def test_attacks_without_a_success_have_no_rows():
    scores = {
        "id": torch.zeros(3),
        "sea": torch.ones(2),
        "pgd8": torch.arange(1.0, 3),
        "cw": torch.zeros(0),
    }
    found = separated.metric_rows("c", {"d": scores}, ["pgd8", "cw"], ["sea"])
    assert [(row["attack"], row["negatives"], row["AUROC"]) for row in found] == [
        ("pgd8", "id", 1.0),
        ("pgd8", "sea", 0.75),
    ]
    assert [(row["n_negatives"], row["n_adv"]) for row in found] == [(3, 2), (2, 2)]
