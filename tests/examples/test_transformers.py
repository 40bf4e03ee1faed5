"""A sample of transformers' image classifiers, small and with random weights."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))
from checked import OK
from transformers_table import examine


@pytest.mark.parametrize("kind", ["vit", "resnet", "mobilenet_v2"])
def test_a_residue_is_read(kind):
    row = examine(kind)
    assert (row.residue, row.shared, row.scored) == (OK, OK, OK)
