"""
Sphinx: the API reference, made of the docstrings. From the root of the repository,

    sphinx-build -W -b html examples/docs output/docs
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import pytorch_ood_viyog

project = "pytorch-ood-viyog"
author = "The pytorch-ood-viyog developers"
version = release = pytorch_ood_viyog.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = ["output"]

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "info"}
autodoc_typehints = "signature"
# formulas are in the docstring of the class, arguments in that of the constructor
autoclass_content = "both"

html_theme = "alabaster"
html_theme_options = {
    "description": "Tell adversarial from out-of-distribution inputs by the first layer",
    "fixed_sidebar": True,
}
