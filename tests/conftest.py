"""Loads the fixtures of helpers/shared_fixtures.py, but not where no test runs."""

import importlib


def pytest_configure(config):
    """The process that only hands out tests to others starts without waiting for PyTorch."""
    if hasattr(config, "workerinput") or not config.getoption("tx", None):
        config.pluginmanager.register(importlib.import_module("shared_fixtures"))
