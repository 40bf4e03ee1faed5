"""
The detectors, one a file: formula in the docstring of the class, mathematics in one screen.
Imports ``residue``, ``fitting`` and ``layer``.
"""

from .base import FirstLayerDetector
from .intent import ViyogIntent
from .noise_floor import NoiseFloor
from .residue import ViyogResidue
from .residue_alarm import ResidueAlarm
from .residue_local import ViyogResidueLocal
from .residue_outlier import ResidueOutlier
from .tv import ViyogTV
from .viyog import Viyog

__all__ = [
    "FirstLayerDetector",
    "NoiseFloor",
    "ResidueAlarm",
    "ResidueOutlier",
    "Viyog",
    "ViyogIntent",
    "ViyogResidue",
    "ViyogResidueLocal",
    "ViyogTV",
]
