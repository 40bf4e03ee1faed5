"""What the benchmark of verdicts counts and writes."""

import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest
import torch

from pytorch_ood_viyog import Verdict

ID, OOD, ADV, NOISY = (int(v) for v in (Verdict.ID, Verdict.OOD, Verdict.ADV, Verdict.NOISY))
FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
sys.path.append(str(FOLDER))


def test_shares_and_their_summary_by_hand():
    verdicts = import_module("verdicts")
    found = {
        "id": [ID, ID, ID, OOD],
        "ood/one": [OOD, OOD],
        "ood/two": [ADV, ID],
        "benign/JPEG": [ID, NOISY, ADV, NOISY],
        "benign/blur": [ID, ID, ID, OOD],
        "adv/pgd8": [ADV, ADV],
        "adv/pgd4": [ADV, ID],
        "adv/pgd2": [ADV, ADV],
        "adv/deepfool": [ADV, ID],
        "adv/smooth": [ID, ID],
        "adv/patch": [ID, OOD],
    }
    row = verdicts.summary(verdicts.shares({k: torch.tensor(v) for k, v in found.items()}))
    assert row["ID alarms"] == 0.25
    assert (row["OOD → OOD"], row["OOD → ADV"]) == (0.5, 0.25)
    assert (row["benign → ID, NOISY"], row["worst benign → ADV"]) == (0.75, 0.25)
    assert row["unseen → not ID"] == 0.5
    attacks = (5 / 6 + 0.5 + 0) / 3
    assert row["four-way"] == pytest.approx((0.75 + 0.5 + attacks + 0.75) / 4)


def test_a_page_marks_what_misses_its_target(tmp_path):
    report = import_module("verdict_report")
    row = dict.fromkeys(report.TARGETS, 0.5)
    rows = [
        {"model": "small", "rule": "learnt"} | row | {"four-way": 0.9, "fit_cpu_s": 40.0},
        {"model": "efficientnet-lite0", "rule": "learnt"} | row | {"fit_cpu_s": 40.0},
        {"model": "small", "rule": "cascade"} | dict.fromkeys(row, float("nan")),
    ]
    path = tmp_path / "verdicts.md"
    page = report.report(pandas.DataFrame(rows), path, str(FOLDER / "verdicts.py"))
    assert "| four-way ≥ 0.85 | 0.900 | **0.500** |" in page
    assert "| fit_cpu_s ≤ 30 (224 px: ≤ 180) | **40.000** | 40.000 |" in page
    assert "\n| mean of 1 | cascade | " in page
    assert path.read_text(encoding="utf-8") == page
    assert "\n*Made on " in page
