"""The API reference builds from the docstrings without a warning, and leaves no export out."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import pytorch_ood_viyog
from pytorch_ood_viyog.pipeline.shared_forward import SharedForward
from pytorch_ood_viyog.triage.triage import Triage

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples" / "docs"


def test_what_the_package_exports_is_in_the_reference():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in SOURCE.glob("*.rst"))
    documented = re.findall(r"^\.\. automodule:: ([\w.]+)$", pages, flags=re.MULTILINE)
    assert len(documented) == len(set(documented))
    exported = [getattr(pytorch_ood_viyog, name) for name in pytorch_ood_viyog.__all__]
    assert {each.__module__ for each in (*exported, Triage, SharedForward)} <= set(documented)


def test_reference_builds():
    pytest.importorskip("sphinx")
    with tempfile.TemporaryDirectory() as folder:
        # reads and resolves everything, and writes no pages
        command = ["-m", "sphinx", "-W", "-q", "-b", "dummy", SOURCE, folder]
        process = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
