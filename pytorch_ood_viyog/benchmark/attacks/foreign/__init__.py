"""
Other people's attacks: recognised, called as their libraries have it, and watched so that model
and randomness are as found afterwards. Imports ``layer`` and ``looks``.
"""

from .adapters import ARTAttack, FunctionAttack, SecmlAttack, TorchattacksAttack
from .as_attack import Attack, KeyedAttack, as_attack
from .foolbox_attack import FoolboxAttack

__all__ = [
    "ARTAttack",
    "Attack",
    "FoolboxAttack",
    "FunctionAttack",
    "KeyedAttack",
    "SecmlAttack",
    "TorchattacksAttack",
    "as_attack",
]
