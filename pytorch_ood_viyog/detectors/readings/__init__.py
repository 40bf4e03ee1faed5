"""
What detectors of the noise floor read at the layer and show beside their scores: bases of
``ViyogResidue``, from ``ResidueAtLayer`` over parts and readings up to ``IntentReadings``.
"""

from .intent_readings import IntentReadings
from .residue_at_layer import ResidueAtLayer
from .residue_parts import ResidueParts
from .residue_readings import ResidueReadings

__all__ = ["IntentReadings", "ResidueAtLayer", "ResidueParts", "ResidueReadings"]
