"""
Many detectors, one forward pass; and every layer of a network from one pass. Imports
``detectors`` and the rooms below them.
"""

from .scan import LAYER_STATISTICS, layer_scan
from .shared_forward import SharedForward

__all__ = ["LAYER_STATISTICS", "SharedForward", "layer_scan"]
