"""
From a batch to log-odds: ``evidence`` of a forward pass and a second look, a ``rule`` that
``learning`` finds in a ``table``, ``thresholds`` with bounded false alarms (``conformal``).
"""

from .evidence import read, read_first, second_look
from .learning import learn
from .rule import Learnt, Rule
from .thresholds import Thresholds

__all__ = ["Learnt", "Rule", "Thresholds", "learn", "read", "read_first", "second_look"]
