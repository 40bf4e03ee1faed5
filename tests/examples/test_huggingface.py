"""Hugging Face models, where transformers is installed (it is no extra of this package)."""

import importlib.util
import re
from pathlib import Path

import pytest
from scripts import run_script

SCRIPT = Path(__file__).parents[2] / "examples" / "detectors" / "huggingface.py"


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="no transformers")
def test_logits_and_first_layers_are_found():
    printed = run_script(SCRIPT)
    assert "ViTForImageClassification: first layer Conv2d(3, 48" in printed
    assert "ConvNextV2ForImageClassification: first layer Conv2d(3, 24" in printed
    risen = re.findall(r"residue +(-?[\d.]+) -> +(-?[\d.]+)", printed)
    assert len(risen) == 2
    assert all(float(noisy) > float(clean) + 5 for clean, noisy in risen)
