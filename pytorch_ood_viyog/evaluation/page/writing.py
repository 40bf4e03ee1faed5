"""
Pages as HTML files. Needs Jinja2, which the extra ``report`` brings.
"""

from importlib.resources import files
from pathlib import Path

from .parts import Page

__all__ = ["write_page"]


def write_page(page: Page, path: str | Path) -> Path:
    """
    Write one HTML file that needs no other: pictures, style and script are inside, and a policy in
    it forbids the browser to load anything.

    :param page: what to write
    :param path: file to write; folders are made
    :return: the file
    :raises ImportError: if Jinja2 is not installed
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ImportError(
            "Reports need Jinja2: pip install 'pytorch-ood-viyog[report]'"
        ) from error
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_source("page.html"))
    text = template.render(page=page, style=_source("page.css"), script=_source("page.js"))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
