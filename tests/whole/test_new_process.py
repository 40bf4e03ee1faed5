"""What only a new process shows: which modules an import takes along, and ``python -m``."""

import os
import subprocess
import sys

import pytest

EXTRAS = ["matplotlib", "pandas", "foolbox", "onnx", "transformers", "timm", "skimage", "jinja2"]
# one process for all of it, as the imports take seconds; it ends as "python -m" does.
# scikit-learn, a dependency, takes pandas along wherever it is installed: here it finds none
PROGRAM = f"""
import runpy, sys
sys.modules["pandas"] = None
import sklearn.utils
del sys.modules["pandas"]
from pytorch_ood_viyog import SharedForward, Triage, ViyogResidue
print([extra for extra in {EXTRAS} if extra in sys.modules])
from pytorch_ood_viyog.testing import DetectorContract
print("pytest" in sys.modules)
sys.argv = ["benchmark", "run", "--help"]
runpy.run_module("pytorch_ood_viyog.benchmark", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def process():
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_the_face_needs_no_extra(process):
    assert process.stdout.splitlines()[:1] == ["[]"], process.stderr


def test_pytest_is_imported_only_when_used(process):
    assert process.stdout.splitlines()[1:2] == ["False"], process.stderr


def test_help_of_the_module(process):
    assert process.returncode == 0
    assert process.stderr == ""
    for name in ("--model", "ViyogResidue", "NNGuide", "pgdN"):
        assert name in process.stdout
