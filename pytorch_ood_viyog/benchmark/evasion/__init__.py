"""
The price of evasion: attackers who know everything about a detector, and what it costs them all
the same. A system is a classifier with what watches over it; attacks are tried on it at growing
budgets. Imports ``detectors``, ``looks``, ``triage``, ``evaluation`` and ``layer``.
"""

from .evasion import BUDGETS, evasion
from .report import Evasion, SystemResult

__all__ = ["BUDGETS", "Evasion", "SystemResult", "evasion"]
