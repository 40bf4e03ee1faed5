"""
What verdicts are worth: how often each is right, the samples to look at, and both as one page.
"""

from .judged import JudgedClass, JudgedSample
from .report import TriageReport
from .report_of import Explains, judged, judged_class, with_residue
from .residue_at import MapsResidue, residue_at

__all__ = [
    "Explains",
    "JudgedClass",
    "JudgedSample",
    "MapsResidue",
    "TriageReport",
    "judged",
    "judged_class",
    "residue_at",
    "with_residue",
]
