"""What the benchmark of the price of evasion writes."""

import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest
import torch
from gates import GREY, Halves, LeftWatch, halves_images

from pytorch_ood_viyog.benchmark import evasion

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))


def test_tables_of_all_classifiers_and_a_figure(tmp_path):
    pytest.importorskip("matplotlib")
    script = import_module("evasion")
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
    script.write({"one": found, "two": found}, tmp_path)
    text = (tmp_path / "evasion.md").read_text()
    assert text.startswith("# The price of evasion\n\nMade by `python examples/benchmarks/")
    assert text.count("\n## ") == 2
    table = pandas.read_csv(tmp_path / "evasion.csv")
    assert len(table) == 2 * 2 * 2  # classifiers, systems, budgets
    assert list(table["config"].unique()) == ["one", "two"]
    assert (tmp_path / "evasion.png").stat().st_size > 1000
