"""
Pages as HTML files. Needs Jinja2, which the extra ``report`` brings.
"""

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..plotting import pyplot
from .parts import Page
from .pictures import pillow

__all__ = ["check_extra", "write_page"]


def write_page(page: Page, path: str | Path) -> Path:
    """
    Write one HTML file that needs no other: pictures, style and script are inside, and a policy in
    it forbids the browser to load anything.

    :param page: what to write
    :param path: file to write; folders are made
    :return: the file
    :raises ImportError: if Jinja2 is not installed
    """
    template = _environment().from_string(_source("page.html"))
    text = template.render(page=page, style=_source("page.css"), script=_source("page.js"))
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


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
