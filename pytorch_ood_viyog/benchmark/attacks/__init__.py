"""
Attacks: libraries behind one signature, a few that they lack, adversarial examples that survive
rounding to 8 bit, kept batch by batch in a cache. Imports ``layer``.
"""

from .adapters import FoolboxAttack, TorchattacksAttack
from .colour import ColourShift
from .craft import AdversarialExamples, Attack, AttackSize, craft, round_to_8_bit
from .gradient import ConfinedPGD, SmoothPGD, TargetedPGD, TrainedPatch
from .named import ATTACK_NAMES, named_attack
from .square import Square

__all__ = [
    "ATTACK_NAMES",
    "AdversarialExamples",
    "Attack",
    "AttackSize",
    "ColourShift",
    "ConfinedPGD",
    "FoolboxAttack",
    "SmoothPGD",
    "Square",
    "TargetedPGD",
    "TorchattacksAttack",
    "TrainedPatch",
    "craft",
    "named_attack",
    "round_to_8_bit",
]
