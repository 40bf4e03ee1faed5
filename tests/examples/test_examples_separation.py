"""The parts of the separation benchmark that its numbers rest on, without its data."""

import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
report = import_module("separation_report")
DETECTORS = import_module("separation_scores").DETECTORS


def rows(values, **columns):
    """Rows of ``separation.csv``: (attack, negatives) -> AUROC; FPR95 is 1 - AUROC."""
    return pandas.DataFrame(
        {"config": "c", "detector": DETECTORS[0], **columns}
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
    (found,) = (t for t in report.TARGETS if t.name == target)
    value = found.read(rows(RESULTS))
    assert value.number == pytest.approx(number)
    assert value.where == where


def test_targets_without_rows_have_no_value():
    assert not any(target.read(rows(RESULTS).iloc[:0]) for target in report.TARGETS)


def test_a_bound_from_above_is_met_below_it():
    (fpr,) = (target for target in report.TARGETS if target.name.startswith("FPR95"))
    assert fpr.met(report.Value(0.01))
    assert not fpr.met(report.Value(0.03))


def test_report_counts_and_marks_what_is_missed():
    perfect = dict.fromkeys(RESULTS, 1.0) | {("pgd8", "id"): 0.5}
    table = pandas.concat([rows(perfect, detector=d) for d in DETECTORS])
    attacks = pandas.DataFrame(
        {"config": "c", "attack": a, "attacked": 4, "succeeded": 3, "linf": 8.0, "rms": 7.0}
        for a in ("fgsm8", "pgd8", "deepfool")
    )
    text = report.main_report(table, attacks)
    assert "6 of 7 met" in text
    assert text.count("**0.500**") == 1
