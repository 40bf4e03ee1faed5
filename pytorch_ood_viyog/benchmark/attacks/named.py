"""
Common attacks by name, ``pgd8`` for PGD with a budget of 8/255. Most need foolbox.
"""

import re
from typing import Any

from .adapters import FoolboxAttack
from .as_attack import Attack, as_attack
from .square import Square

__all__ = ["ATTACK_NAMES", "named_attack"]

#: the forms that :func:`named_attack` knows, N being the budget in 1/255
ATTACK_NAMES = ("fgsmN", "pgdN", "bimN", "targetedN", "squareN", "deepfool", "cw")


def named_attack(name: str) -> Attack:
    """
    :param name: ``fgsm8``, ``pgd8`` (20 steps, random start), ``bim8`` (20 steps), ``targeted8``
        (PGD towards a random class) or ``square8`` (random search, 1,000 queries) with any
        budget in 1/255, ``deepfool`` or ``cw`` (Carlini-Wagner), both L2
    :return: the attack. DeepFool and Carlini-Wagner stop at the decision boundary, where
        rounding to 8 bit would undo most of their successes: an overshoot and a confidence carry
        them a little beyond.
    :raises ValueError: if the name is unknown
    :raises ImportError: if foolbox is not installed
    """
    match = re.fullmatch(r"(fgsm|pgd|bim|targeted|square)(\d+)|deepfool|cw", name)
    if match is None:
        raise ValueError(
            f"There is no attack named {name!r}; names are {', '.join(ATTACK_NAMES)}."
        )
    kind, budget = match[1] or name, int(match[2] or 0) / 255
    if kind == "square":
        return Square(budget)
    try:
        from foolbox import attacks
    except ImportError as error:
        raise ImportError(
            "Attacks by name need foolbox: pip install 'pytorch-ood-viyog[foolbox]'"
        ) from error
    if name == "deepfool":
        return FoolboxAttack(attacks.L2DeepFoolAttack(steps=30, candidates=5, overshoot=0.3))
    if name == "cw":
        settings: dict[str, Any] = {"binary_search_steps": 3, "steps": 30, "stepsize": 0.02}
        settings |= {"confidence": 0.5, "initial_const": 0.3}
        return FoolboxAttack(attacks.L2CarliniWagnerAttack(**settings))
    if kind == "fgsm":
        return FoolboxAttack(attacks.FGSM(), budget)
    if kind == "bim":
        return FoolboxAttack(attacks.LinfBasicIterativeAttack(steps=20, rel_stepsize=0.1), budget)
    pgd = attacks.LinfPGD(steps=20, rel_stepsize=2.5 / 20)
    targets = "random" if kind == "targeted" else None
    return as_attack(pgd, epsilon=budget, targets=targets)
