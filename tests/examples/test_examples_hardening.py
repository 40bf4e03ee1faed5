"""What the benchmark of hardened systems writes."""

import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest
import torch
from gates import GREY, Halves, LeftWatch, halves_images

from pytorch_ood_viyog.benchmark import evasion

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))


@pytest.fixture(scope="module")
def script():
    return import_module("hardening")


def test_shares_of_alarms_by_system(script):
    rows = [
        {"config": "one", "images": "ID", "n": 7, "white": 0.0512, "smooth": 0.04},
        {"config": "one", "images": "pgd8", "n": 5, "white": 1.0, "smooth": 0.6},
    ]
    text = script.blurred_report(pandas.DataFrame(rows))
    assert "| one | ID | 7 | 0.05 | 0.04 |" in text
    assert "| one | pgd8 | 5 | 1.00 | 0.60 |" in text


def test_tables_of_the_price(script, tmp_path):
    found = evasion(
        LeftWatch(Halves()),
        halves_images(3),
        calibration=torch.full((40, 1, 4, 4), GREY),
        budgets=(1 / 255, 4 / 255),
        attacks=["alternating"],
        steps=3,
        checks=0,
        progress=False,
    )
    script.write({"one": found}, tmp_path)
    assert (tmp_path / "hardening.md").read_text().startswith("# Hardening\n\nMade by `python ")
    assert len(pandas.read_csv(tmp_path / "hardening.csv")) == 2 * 2  # systems, budgets
