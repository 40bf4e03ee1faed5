"""
Which layer of a model is meant: found by its name or kind, or as the first that takes the image;
alone, with others that take the same tensor, or with all that lies before it; how often it runs.
"""

from .by_name import convolutions, find_layer, layer_named
from .composed import Branches, Stem, runs_first
from .examination import examine
from .relation import Path, check_path
from .runs import Rows, Runs, runs_unclear

__all__ = [
    "Branches",
    "Path",
    "Rows",
    "Runs",
    "Stem",
    "check_path",
    "convolutions",
    "examine",
    "find_layer",
    "layer_named",
    "runs_first",
    "runs_unclear",
]
