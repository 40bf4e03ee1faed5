"""
Sphinx extension for sources that are also read as they are: scripts become pages of the gallery
without titles underlined in their docstrings, and Markdown links to files that are no pages work.
"""

import re
import time
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx_gallery.scrapers import figure_rst

# the first line below the label of a script's page, and the command that ends its docstring
_TITLE = re.compile(r"(?<=\.py:\n\n\n)(?P<title>.+)\n(?!=)")
_COMMAND = re.compile(r":\n\n(?=    \w)")
# progress bars, which count as output, and output that was nothing else
_PROGRESS = re.compile(r"^    .*\d%\|.*\| \d+/\d+ \[.*\]\s*?\n", flags=re.MULTILINE)
_EMPTY = re.compile(
    r"\.\. rst-class:: sphx-glr-script-out\n\n \.\. code-block:: none\n\s*\n(?=\S)"
)
# a link out of the documentation to a file that could be a page
_OUTSIDE = re.compile(r"\]\((?=\.\./\.\./[^)#]+\.(md|rst)\))")
# when the newest figure was written that is on a page
_newest = time.time()


def written_figures(
    block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]
) -> str:
    """
    A scraper for sphinx-gallery: PNG files that the cell wrote to the folder ``output``.

    :param block: the cell
    :param block_vars: where images of this page go
    :param gallery_conf: settings of the gallery
    :return: reST that shows them
    """
    global _newest
    files = sorted(Path("output").rglob("*.png"), key=lambda file: file.stat().st_mtime)
    written = [file for file in files if file.stat().st_mtime > _newest]
    shown = [Path(next(block_vars["image_path_iterator"])) for _ in written]
    for file, image in zip(written, shown, strict=True):
        _newest = file.stat().st_mtime
        image.write_bytes(file.read_bytes())
    return figure_rst([str(image) for image in shown], gallery_conf["src_dir"])


def adapt(app: Sphinx, docname: str, source: list[str]) -> None:
    """
    :param app: Sphinx
    :param docname: name of a page
    :param source: its text, the only entry, changed in place
    """
    if docname.startswith("gallery/"):
        text = _COMMAND.sub("::\n\n", _TITLE.sub(_underlined, source[0]), count=1)
        source[0] = _EMPTY.sub("", _PROGRESS.sub("", text))
    else:
        source[0] = _OUTSIDE.sub("](path:", source[0])


def _underlined(match: re.Match[str]) -> str:
    title = match["title"].removesuffix(".")
    return f"{title}\n{'=' * len(title)}\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """
    :param app: Sphinx
    :return: what Sphinx wants to know about this extension
    """
    app.connect("source-read", adapt)
    return {"parallel_read_safe": True}
