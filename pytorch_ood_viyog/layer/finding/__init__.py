"""
Which layer of a model is meant: found by its name or kind, or as the first to run; alone, or with
others that take the same tensor.
"""

from .branches import Branches
from .by_name import convolutions, find_layer, known_convolutions, layer_named
from .first_to_run import first_to_run

__all__ = [
    "Branches",
    "convolutions",
    "find_layer",
    "first_to_run",
    "known_convolutions",
    "layer_named",
]
