"""
Where a page comes from: command, time, versions, seeds.
"""

import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .parts import Section, Table

__all__ = ["machine", "origin", "versions"]

# the packages that numbers depend on, in the order they are shown
_PACKAGES = (
    "pytorch-ood-viyog",
    "pytorch-ood",
    "torch",
    "torchvision",
    "timm",
    "foolbox",
    "numpy",
    "scikit-learn",
    "scikit-image",
    "Pillow",
)


def origin(facts: Mapping[str, Any]) -> Section:
    """
    :param facts: what else is to be known, such as the seeds: name -> value
    :return: the section that says how the page was made
    """
    made = {
        "command": _command(),
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        **facts,
    }
    known = versions() | {"machine": machine()}
    tables = (
        Table(("what", "value"), tuple((n, str(v)) for n, v in made.items()), "Run"),
        Table(("package", "version"), tuple(known.items()), "Versions"),
    )
    return Section("How this page was made", tables=tables)


def _command() -> str:
    """What was typed, but for the folder that Python is in."""
    program, *arguments = sys.orig_argv or ["python"]
    return shlex.join([Path(program).name, *arguments])


def machine() -> str:
    """:return: the kind of the machine"""
    return f"{platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    """:return: Python and the packages that numbers depend on, as far as they are installed"""
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # optional, and not there
            continue
    return found
