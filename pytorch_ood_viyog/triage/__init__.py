"""
Verdicts: ``evidence`` reads a forward pass and a second look, ``learning`` learns a ``rule`` from
simulated populations, ``thresholds`` bound its false alarms, ``triage`` does it all; ``odds`` is
its score for ADV as a detector, ``report`` says what verdicts are worth. Imports ``pipeline``,
``populations`` and the rooms below.
"""

from .explanation import Explanation
from .odds import AdversarialOdds
from .populations.verdict import Verdict
from .report import TriageReport
from .triage import Triage

__all__ = ["AdversarialOdds", "Explanation", "Triage", "TriageReport", "Verdict"]
