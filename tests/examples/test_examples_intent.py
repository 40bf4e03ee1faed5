"""What the benchmark of intent makes of scores, without its data."""

import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
report = import_module("intent_report")


def normal(count, seed, mean=0.0):
    return mean + torch.randn(count, generator=torch.Generator().manual_seed(seed)).double()


# mean of each detector's scores of these images
MEANS = {
    "id": (0, 0, 0),
    "benign/white noise 8/255": (9, 9, 0),
    "benign/blur 1 px": (0, 0, 0),
    "adv/pgd8": (9, 9, 9),
    "adv/pgd4": (9, 9, 1),
    "adv/cw": (9, 9, 9),
    "ood/mri": (0, 9, 0),
    "ood/mri/white noise 2/255": (9, 9, 9),
}


@pytest.fixture(scope="module")
def rows():
    scores = {name: {} for name in (report.RESIDUE, report.ALARM, report.INTENT)}
    for seed, (images, means) in enumerate(MEANS.items()):
        for number, (own, mean) in enumerate(zip(scores.values(), means, strict=True)):
            own[images] = normal(400, 3 * seed + number, mean)
    scores[report.ALARM]["calibration"] = normal(500, 50)
    scores[report.INTENT]["calibration, changed"] = normal(500, 51)
    scores["joined"] = dict(scores[report.RESIDUE])
    scores["joined"]["adv/cw"] = normal(400, 60)  # what joining must not cost
    times = {"fit ViyogResidue": 1.0, "fit ViyogIntent": 5.0}
    times |= {"predict ViyogResidue": 2.0, "predict ViyogIntent": 3.0}
    found = report.rows("gtsrb-3x3", "gradients", scores, times)
    return pandas.DataFrame(found).assign(sample_size=256)


@pytest.mark.parametrize(
    ("start", "number", "where", "met"),
    [
        ("T4, attacks at 8", 0.88, "", False),  # PGD 8 all, PGD 4 at .76
        ("T4, PGD 2", 1.0, "", True),
        ("T4, worst pair", 0.76, "pgd4, ", False),
        ("benign called ADV ≤ .05", 0.025, "", True),  # blur raises no alarm
        ("benign called ADV, worst", 0.05, "white noise 8/255", True),
        ("8/255 called ADV", 1.0, "", True),
        ("4/255 called ADV", 0.22, "", False),
        ("ID-vs-ADV", -0.5, "cw", False),
        ("OOD-vs-ADV", -0.5, "cw", False),
        ("OOD with noise", 1.0, "", False),
        ("predict", 1.5, "", False),
    ],
)
def test_targets_read_what_their_names_say(rows, start, number, where, met):
    (target,) = (t for t in report.TARGETS if t.name.startswith(start))
    value = target.read(rows)
    assert value.number == pytest.approx(number, abs=0.06)
    assert value.where.startswith(where)
    assert target.met(value) is met


def test_the_report_marks_what_is_missed(rows):
    text = report.report(rows)
    assert "| 8/255 called ADV ≥ .90 | 1.000 | 1 of 1 |" in text
    assert "| predict, times ViyogResidue's ≤ 1.15 | **1.500** | 0 of 1 |" in text
    assert "| ID, white noise 8/255 | 0.0" in text
    assert "| OOD, white noise 2/255 | 1.00 (1.00) |" in text
    assert "| white noise 8/255 | 0.8" in text  # T4
    assert "| fit of ViyogIntent, s | 5 |" in text


def test_targets_without_rows_have_no_value(rows):
    assert not any(target.read(rows.iloc[:0]) for target in report.TARGETS)
