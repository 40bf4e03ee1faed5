"""Models of timm with random weights, with no argument but the model."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("timm")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))
from timm_table import OK, TESTED, examine

BRANCHES = {
    "repvgg": "stem.conv_1x1.conv + stem.conv_kxk.conv",
    "fastvit": "stem.0.conv_scale.conv + stem.0.conv_kxk.0.conv",
}


@pytest.mark.parametrize("family", TESTED)
def test_all_detectors_fit_and_predict(family):
    row = examine(family, *TESTED[family])
    assert (row.viyog, row.tv, row.residue, row.shared) == (OK,) * 4
    assert row.directions >= 8
    if family in BRANCHES:
        assert row.layer == BRANCHES[family]
