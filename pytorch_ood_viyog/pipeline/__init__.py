"""
Many detectors, one forward pass, and their saved states; and every layer of a network from one
pass. Imports ``looks`` and the rooms below it.
"""

from .scan import LAYER_STATISTICS, layer_scan
from .shared_forward import SharedForward

__all__ = ["LAYER_STATISTICS", "SharedForward", "layer_scan"]
