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
    found = evasion(
        LeftWatch(Halves()),
        halves_images(3),
        calibration=torch.full((40, 1, 4, 4), GREY),
        budgets=(1 / 255, 4 / 255),
        attacks=["selective"],
        steps=3,
        checks=0,
        progress=False,
    )
    report = import_module("evasion_report")
    report.write("two", found, "python evasion.py --n 3", tmp_path)
    report.write("one", found, "python evasion.py --n 3", tmp_path)
    report.write("two", found, "python evasion.py --n 4", tmp_path)  # takes its own place
    details = (tmp_path / "evasion_two.md").read_text()
    assert details.startswith("# The price of evasion: two\n")
    assert "\nMade by `python evasion.py --n 4`.\n\n*Made on " in details
    table = pandas.read_csv(tmp_path / "evasion.csv")
    assert len(table) == 2 * 2 * 2  # classifiers, systems, budgets
    assert list(table["model"].unique()) == ["one", "two"]
    lines = (tmp_path / "evasion.md").read_text().splitlines()
    assert sum("LeftWatch" in line for line in lines) == 2
    assert (tmp_path / "evasion.png").stat().st_size > 1000


def test_the_command_that_is_written_makes_the_same(monkeypatch):
    script = import_module("evasion")
    given = "evasion.py --data D --configs photo15-3x3 --systems SecondLook --n 5 --attacks pgd"
    monkeypatch.setattr(sys, "argv", given.split())
    made = []
    monkeypatch.setattr(script, "attack", lambda name, arguments: _Nothing())
    monkeypatch.setattr(script, "write", lambda *args: made.append(args[2]))
    script.main()
    first = made[0]
    monkeypatch.setattr(sys, "argv", first.replace("DATA_FOLDER", "D").split()[1:])
    script.main()
    assert made == [first, first]


class _Nothing:
    def table(self, _):
        return ""
