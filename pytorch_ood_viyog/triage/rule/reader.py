"""
What reads the evidence of a verdict.
"""

from typing import Protocol

from ...detectors.residue import ViyogResidue
from ...looks.logits import Answers
from ...pipeline.shared_forward import SharedForward

__all__ = ["Reader"]


class Reader(Protocol):
    """What reads evidence: a Triage."""

    pipeline: SharedForward
    residue: ViyogResidue
    answers: Answers
