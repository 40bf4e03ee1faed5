"""Models of timm with random weights, with no argument but the model."""

import functools
import sys
from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("timm")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))
import checked
from checked import OK
from timm_table import TESTED, examine, timm

BRANCHES = {
    "repvgg": "stem.conv_1x1.conv + stem.conv_kxk.conv",
    "fastvit": "stem.0.conv_scale.conv + stem.0.conv_kxk.0.conv",
}
#: two heads whose mean is the answer: which of their inputs are the features is for the user
TWO_HEADS = {"levit", "crossvit"}
#: families that need more than images of 32 px, as too few of their windows are in these
LARGE = {"beit", "cait", "deit3", "poolformer", "vit"}
#: the same stem and head with fewer blocks between, which nothing here reads
FEWER = {
    "beit": {"depth": 2},
    "cait": {"depth": 2},
    "crossvit": {"depth": [[1, 1, 0]] * 3},
    "deit3": {"depth": 2},
    "densenet": {"block_config": (2, 2, 2, 2)},
    "eva02": {"depth": 2},
    "fastvit": {"layers": (1, 1, 1, 1)},
    "levit": {"depth": (1, 1, 1)},
    "res2net": {"layers": (1, 1, 1, 1)},
    "resnet": {"layers": (1, 1, 1, 1)},
    "swin": {"depths": (1, 1, 1, 1)},
    "vit": {"depth": 2},
    "xcit": {"depth": 2},
}


@pytest.mark.parametrize("family", TESTED)
def test_a_residue_is_read(family, monkeypatch):
    name, size = TESTED[family]
    if size == 64 and family not in LARGE:
        monkeypatch.setitem(TESTED, family, (name, 32))
    create = functools.partial(timm.create_model, **FEWER.get(family, {}))
    monkeypatch.setattr(timm, "create_model", create)
    row = examine(family)
    assert (row.residue, row.scored) == (OK, OK)
    assert row.shared == OK or (family in TWO_HEADS and "becomes the logits" in row.shared)
    if family in BRANCHES:
        assert row.layer == BRANCHES[family]


def test_what_other_sources_found_is_examined_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prints, examined = iter("aab"), []
    monkeypatch.setattr(checked, "fingerprint", lambda script: next(prints))
    monkeypatch.setattr(sys, "argv", ["timm_table.py"])

    def examine(name):
        examined.append(name)
        return checked.Checked(*[""] * len(fields(checked.Checked)))

    for _ in range(3):
        checked.make_page("timm_table.py", "family", ["one"], examine, "# About")
    assert examined == ["one", "one"]
