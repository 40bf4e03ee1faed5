"""
Sphinx: the guide, the examples as an executed gallery, and the API reference, made of the
docstrings. From the root of the repository,

    sphinx-build -W -b html examples/docs output/docs

``-D plot_gallery=0`` does not execute the examples.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # source_pages
sys.path.insert(0, str(Path(__file__).parents[2]))

import pytorch_ood_viyog

project = "pytorch-ood-viyog"
author = "The pytorch-ood-viyog developers"
version = release = pytorch_ood_viyog.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "source_pages",
]
exclude_patterns = ["output"]

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "info"}
autodoc_typehints = "signature"
# formulas are in the docstring of the class, arguments in that of the constructor
autoclass_content = "both"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# scripts in cells are pages, others are modules and command lines
_EXAMPLES = Path(__file__).parents[1] / "detectors"
_NO_PAGES = [
    file.name
    for file in sorted(_EXAMPLES.glob("*.py"))
    if "\n# %%\n" not in file.read_text(encoding="utf-8")
]
sphinx_gallery_conf = {
    "examples_dirs": "../detectors",
    "gallery_dirs": "gallery",
    "ignore_pattern": "|".join(rf"^{re.escape(name)}$" for name in _NO_PAGES),
    "filename_pattern": "",  # all others are executed
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("source_pages.written_figures",),
    "reset_modules": (),  # figures are files, so matplotlib is not asked
    "capture_repr": (),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "furo"
html_title = project
html_show_copyright = False  # the licence is in the repository
