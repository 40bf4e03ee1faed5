"""
Pages as HTML files, with where they come from: command, time, versions, seeds. Needs Jinja2,
which the extra ``report`` brings.
"""

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..plotting import pyplot
from .parts import Section, Table
from .pictures import pillow

__all__ = ["check_extra", "machine", "origin", "versions", "write_page"]

# the packages that numbers depend on, in the order they are shown
_PACKAGES = (
    *("pytorch-ood-viyog", "pytorch-ood", "torch", "torchvision", "timm", "foolbox"),
    *("numpy", "scikit-learn", "scikit-image", "Pillow"),
)


def write_page(
    path: str | Path,
    title: str,
    summary: Sequence[str],
    sections: Sequence[Section],
    facts: Mapping[str, Any],
) -> Path:
    """
    Write one HTML file that needs no other: pictures, style and script are inside, and a policy in
    it forbids the browser to load anything.

    :param path: file to write; folders are made
    :param title: heading
    :param summary: what the page says, in a few sentences
    :param sections: its parts; how it was made comes after them
    :param facts: what else is to be known of that, such as the seeds: name -> value
    :return: the file
    :raises ImportError: if Jinja2 is not installed
    """
    sources = {name: files(__package__).joinpath(f"page.{name}") for name in ("html", "css", "js")}
    html, style, script = (source.read_text(encoding="utf-8") for source in sources.values())
    text = (
        _environment()
        .from_string(html)
        .render(
            title=title,
            summary=summary,
            sections=[*sections, origin(facts)],
            style=style,
            script=script,
        )
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def check_extra() -> None:
    """
    To be told before the work is done.

    :raises ImportError: if something is not installed that a page with pictures needs
    """
    _environment()
    pyplot()
    pillow()


def _environment() -> Any:
    try:
        jinja2 = import_module("jinja2")
    except ImportError as error:
        raise ImportError(
            "Reports need Jinja2: pip install 'pytorch-ood-viyog[report]'"
        ) from error
    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def origin(facts: Mapping[str, Any]) -> Section:
    """:return: the section that says how the page was made"""
    program, *arguments = sys.orig_argv or ["python"]
    made = {
        # what was typed, but for the folder that Python is in
        "command": shlex.join([Path(program).name, *arguments]),
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        **{name: str(value) for name, value in facts.items()},
    }
    known = versions() | {"machine": machine()}
    tables = (
        Table(("what", "value"), tuple(made.items()), "Run"),
        Table(("package", "version"), tuple(known.items()), "Versions"),
    )
    return Section("How this page was made", tables=tables)


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
