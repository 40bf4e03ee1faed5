"""What the quickstart gives, run as a user starts it."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def quickstart():
    """What the quickstart printed and drew; ``.ci/run`` runs it, and then these tests."""
    if "QUICKSTART" not in os.environ:
        pytest.skip("QUICKSTART names no folder with printed.txt and scores.png of a run")
    folder = Path(os.environ["QUICKSTART"])
    return (folder / "printed.txt").read_text(encoding="utf-8"), folder


def tables(text):
    """Markdown tables of AUROC values: head -> values by detector."""
    found = re.findall(r"^(\| \|.*)\n\|[-|]+\n((?:\|.*\n)+)", text, flags=re.MULTILINE)
    return {head: dict(map(row, rows.splitlines())) for head, rows in found}


def row(line):
    name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
    return name, cells


def test_quickstart_prints_a_table(quickstart):
    printed, _ = quickstart
    ((head, values),) = tables(printed).items()
    assert head.startswith("| | ID-vs-OOD | ID-vs-PGD 8/255 | ")
    assert {"MaxSoftmax", "EnergyBased", "KNN", "Viyog", "ViyogTV"} <= set(values)
    assert all(0 <= float(value) <= 1 for cells in values.values() for value in cells)


def test_quickstart_tells_attacks_by_the_first_layer_alone(quickstart):
    """Far from the values that README shows, so that no processor's rounding matters."""
    printed, _ = quickstart
    (values,) = tables(printed).values()
    residue, energy = ([float(v) for v in values[d]] for d in ("ViyogResidue", "EnergyBased"))
    assert min(residue[1:]) > 0.95
    assert max(energy[1:]) < 0.5


def test_quickstart_attacks_succeed(quickstart):
    printed, _ = quickstart
    for budget in (8, 4):
        succeeded, attacked = re.search(rf"PGD {budget}/255: (\d+) of (\d+)", printed).groups()
        assert 4 < int(succeeded) <= int(attacked)


def test_quickstart_gives_verdicts(quickstart):
    printed, _ = quickstart
    assert re.search(r"^ADV +\d", printed, flags=re.MULTILINE)
    assert "balanced accuracy" in printed


def test_quickstart_saves_a_figure(quickstart):
    _, folder = quickstart
    figure = (folder / "scores.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    width, height = (int.from_bytes(figure[i : i + 4], "big") for i in (16, 20))
    assert width > 800
    assert height > 800


def test_readme_shows_the_table_of_the_quickstart(quickstart):
    printed, _ = quickstart
    ((head, values),) = tables(printed).items()
    assert list(tables(README)[head]) == list(values)
