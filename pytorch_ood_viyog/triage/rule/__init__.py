"""
From a batch to log-odds: ``evidence`` of a forward pass and a second look, a ``rule`` that
``learning`` finds in a ``table``, ``reading`` that puts both together, ``thresholds`` with
bounded false alarms (``conformal``).
"""

from .evidence import read_first, second_look
from .learning import Learnt, learn
from .rule import Rule
from .thresholds import Thresholds

__all__ = ["Learnt", "Rule", "Thresholds", "learn", "read_first", "second_look"]
