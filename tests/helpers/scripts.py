"""Runs examples as a user does."""

import contextlib
import io
import os
import runpy
import subprocess
import sys

import pytest


def run_script(script, *arguments):
    """
    :return: what the script printed, run with these arguments in this process, which has the
        imports behind it
    """
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        patch.syspath_prepend(script.parent)
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


def run_process(*command):
    """:return: what Python printed, run with these arguments in a process of its own"""
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
