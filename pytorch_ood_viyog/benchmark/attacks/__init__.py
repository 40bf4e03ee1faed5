"""
Attacks: libraries behind one signature, adversarial examples that survive rounding to 8 bit, kept
batch by batch in a cache. Imports ``layer``.
"""

from .adapters import FoolboxAttack, TorchattacksAttack
from .craft import AdversarialExamples, Attack, AttackSize, craft, round_to_8_bit
from .named import ATTACK_NAMES, named_attack

__all__ = [
    "ATTACK_NAMES",
    "AdversarialExamples",
    "Attack",
    "AttackSize",
    "FoolboxAttack",
    "TorchattacksAttack",
    "craft",
    "named_attack",
    "round_to_8_bit",
]
