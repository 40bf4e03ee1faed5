"""
Attacks: anybody's behind one signature, and adversarial examples that survive rounding to 8 bit,
kept batch by batch in a cache. Imports ``layer`` and ``looks``.
"""

from .adapters import FoolboxAttack
from .as_attack import Attack, as_attack
from .craft import AdversarialExamples, craft
from .images import round_to_8_bit
from .named import ATTACK_NAMES, named_attack
from .size import AttackSize
from .square import Square

__all__ = [
    "ATTACK_NAMES",
    "AdversarialExamples",
    "Attack",
    "AttackSize",
    "FoolboxAttack",
    "Square",
    "as_attack",
    "craft",
    "named_attack",
    "round_to_8_bit",
]
