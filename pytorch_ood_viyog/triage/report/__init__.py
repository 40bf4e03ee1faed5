"""
What verdicts are worth: how often each is right, the samples to look at, and both as one page.
"""

from .judged import JudgedClass, JudgedSample
from .report import TriageReport
from .residue_at import MapsResidue, residue_at

__all__ = ["JudgedClass", "JudgedSample", "MapsResidue", "TriageReport", "residue_at"]
