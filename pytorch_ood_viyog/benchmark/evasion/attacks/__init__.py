"""
Attacks on a classifier with a detector, one family a module: rules and shapes of one descent, and
a random search without gradients.
"""

from .decision import BlackBox
from .descent import Attack, Descent, Plain, Rule, Shape
from .families import FAMILIES, attacks_of
from .orthogonal import Alternating
from .penalty import Penalty
from .quiet import OutOfQuiet
from .smooth import Blurred, Coarse
from .steps import proportional, signed
from .target import Attempt, Target

__all__ = [
    "FAMILIES",
    "Alternating",
    "Attack",
    "Attempt",
    "BlackBox",
    "Blurred",
    "Coarse",
    "Descent",
    "OutOfQuiet",
    "Penalty",
    "Plain",
    "Rule",
    "Shape",
    "Target",
    "attacks_of",
    "proportional",
    "signed",
]
