"""
The detectors, one a file: formula in the docstring of the class, mathematics in one screen; and
``SameWay``, which says whether images still come the way of those that they were calibrated on.
Imports ``residue``, ``fitting``, ``images`` and ``layer``.
"""

from .base import FirstLayerDetector
from .intent import ViyogIntent
from .residue import ViyogResidue
from .residue_view import ResidueView
from .same_way import SameWay
from .tv import ViyogTV
from .viyog import Viyog
from .way_check import WayCheck

__all__ = [
    "FirstLayerDetector",
    "ResidueView",
    "SameWay",
    "Viyog",
    "ViyogIntent",
    "ViyogResidue",
    "ViyogTV",
    "WayCheck",
]
