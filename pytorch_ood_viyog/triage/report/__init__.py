"""
What verdicts are worth: how often each is right, the samples to look at, and both as one page.
"""

from .judged import JudgedClass, JudgedSample, judged_class, residue_at
from .report import TriageReport, judged

__all__ = [
    "JudgedClass",
    "JudgedSample",
    "TriageReport",
    "judged",
    "judged_class",
    "residue_at",
]
