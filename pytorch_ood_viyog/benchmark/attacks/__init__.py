"""
Attacks: anybody's behind one signature, a few that libraries lack, adversarial examples that
survive rounding to 8 bit, kept batch by batch in a cache. Imports ``layer`` and ``looks``.
"""

from .colour import ColourShift
from .craft import AdversarialExamples, craft
from .foreign import (
    ARTAttack,
    Attack,
    FoolboxAttack,
    FunctionAttack,
    SecmlAttack,
    TorchattacksAttack,
    as_attack,
)
from .gradient import ConfinedPGD, SmoothPGD, TargetedPGD, TrainedPatch
from .images import round_to_8_bit
from .named import ATTACK_NAMES, named_attack
from .size import AttackSize
from .square import Square

__all__ = [
    "ATTACK_NAMES",
    "ARTAttack",
    "AdversarialExamples",
    "Attack",
    "AttackSize",
    "ColourShift",
    "ConfinedPGD",
    "FoolboxAttack",
    "FunctionAttack",
    "SecmlAttack",
    "SmoothPGD",
    "Square",
    "TargetedPGD",
    "TorchattacksAttack",
    "TrainedPatch",
    "as_attack",
    "craft",
    "named_attack",
    "round_to_8_bit",
]
