"""
Which layer of a model is meant: found by its name or kind, or as the first that takes the image;
alone, with others that take the same tensor, or with all that lies before it; how often it runs.
"""

from .branches import Branches
from .by_name import convolutions, find_layer, known_convolutions, layer_named
from .examination import Found, examine
from .relation import Path
from .runs import Rows, Runs
from .stem import Stem

__all__ = [
    "Branches",
    "Found",
    "Path",
    "Rows",
    "Runs",
    "Stem",
    "convolutions",
    "examine",
    "find_layer",
    "known_convolutions",
    "layer_named",
]
