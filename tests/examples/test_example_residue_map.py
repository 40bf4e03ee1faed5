"""The example of residue maps finds the attacked part."""

import re
from pathlib import Path

import pytest
from scripts import run_script

SCRIPT = Path(__file__).parents[2] / "examples" / "detectors" / "residue_map.py"


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("residue_map")
    return run_script(SCRIPT, "--quick", "--out", folder), folder


def test_the_residue_is_where_the_attack_is(printed):
    rows = re.findall(r"inside ([\d.]+)/255, beside it ([\d.]+)/255", printed[0])
    assert len(rows) == 2
    for inside, beside in rows:
        assert 2 < float(inside) < 8
        assert float(beside) < float(inside) / 2


def test_every_image_has_its_score(printed):
    found = re.findall(r"^(\w+)(, attacked)? +ViyogResidue +-?[\d.]+$", printed[0], re.MULTILINE)
    assert len(found) == 4
    assert sum(kind != "" for _, kind in found) == 2


def test_both_figures_are_drawn(printed):
    text, folder = printed
    for name in ("clean.png", "attacked.png"):
        assert str(folder / name) in text
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
