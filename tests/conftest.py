"""
Loads the fixtures of helpers/shared_fixtures.py, but not where no test runs, has the longest
begin first, and gives each process one thread.
"""

import importlib
import os

# before NumPy is imported: on two cores the threads of two workers wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: files that take longest: a worker that began one last would run alone at the end
LONGEST = (
    "test_onnx_triage.py",
    "test_scored_model.py",
    "test_readme.py",
    "test_timm.py",
    "test_examples_scale.py",
    "test_examples_triage.py",
    "test_odds_contract.py",
    "test_triage.py",
    "test_docs.py",
    "test_hardening_soak.py",
)


def pytest_configure(config):
    """The process that only hands out tests to others starts without waiting for PyTorch."""
    if hasattr(config, "workerinput") or not config.getoption("tx", None):
        config.pluginmanager.register(importlib.import_module("shared_fixtures"))


def pytest_collection_modifyitems(items):
    """As workers take files in this order, see --no-loadscope-reorder in pyproject.toml."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
