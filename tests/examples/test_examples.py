"""The examples run as a user starts them, with nothing but the installed package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    script = ROOT / "examples" / "detectors" / "quickstart.py"
    process = subprocess.run(
        [sys.executable, script, "--quick", "--out", folder / "figures"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout, folder / "figures"


def table(text, cell):
    """Rows of AUROC values by detector."""
    rows = re.findall(rf"^\W*(\w+){cell}{cell}{cell}", text, flags=re.MULTILINE)
    return {name: [float(value) for value in values] for name, *values in rows}


def test_quickstart_prints_a_table(quickstart):
    printed, _ = quickstart
    values = table(printed, r" +([01]\.\d+)")
    assert {"MaxSoftmax", "EnergyBased", "Mahalanobis", "Viyog", "ViyogTV"} <= set(values)
    assert all(0 <= value <= 1 for row in values.values() for value in row)
    assert re.search(r"ID-vs-OOD +ID-vs-ADV +OOD-vs-ADV", printed)


def test_quickstart_attacks_succeed(quickstart):
    printed, _ = quickstart
    for attack in ("FGSM", "PGD"):
        succeeded, attacked = re.search(rf"{attack}: (\d+) of (\d+)", printed).groups()
        assert 10 < int(succeeded) <= int(attacked)


def test_quickstart_saves_a_figure(quickstart):
    _, folder = quickstart
    figure = (folder / "scores.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    width, height = (int.from_bytes(figure[i : i + 4], "big") for i in (16, 20))
    assert width > 800
    assert height > 800


def test_readme_shows_the_detectors_of_the_quickstart(quickstart):
    printed, _ = quickstart
    shown = table(README, r" \| ([01]\.\d+)")
    assert list(shown) == list(table(printed, r" +([01]\.\d+)"))
