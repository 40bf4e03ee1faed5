"""Runs an example as a user does, without the seconds that a new process takes for imports."""

import contextlib
import io
import runpy
import sys

import pytest


def run_script(script, *arguments):
    """:return: what the script printed, run with these arguments in this process"""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        patch.syspath_prepend(script.parent)
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()
