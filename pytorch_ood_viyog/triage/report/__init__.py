"""
What verdicts are worth: how often each is right, the samples to look at, and both as one page.
"""

from .judged import JudgedClass, JudgedSample
from .report import TriageReport

__all__ = ["JudgedClass", "JudgedSample", "TriageReport"]
