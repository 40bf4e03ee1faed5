"""
The images that several attacks make of one data set. What goes wrong in one is told in its size.
"""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from .craft import AdversarialExamples, craft_of
from .foreign import Attack, KeyedAttack, as_attack
from .keys import described
from .size import AttackSize

__all__ = ["AttackedImages", "named_attacks"]


def named_attacks(attacks: Mapping[str, Any]) -> dict[str, Attack]:
    """
    :param attacks: attacks by name, as their libraries make them
    :return: as this package calls them
    :raises TypeError: if one is no attack
    :raises ValueError: if one needs more than it is given
    """
    found = {}
    for name, attack in attacks.items():
        try:
            found[name] = as_attack(attack)
        except (ValueError, TypeError) as error:
            raise type(error)(f"attack {name!r}: {error}") from error
    return found


class AttackedImages:
    """Runs each attack when its images are asked for, once."""

    def __init__(
        self,
        model: nn.Module,
        attacks: Mapping[str, Attack],
        data: Dataset[Any],
        cache: Path | None,
        **options: Any,
    ):
        """
        :param model: classifier of images in [0, 1]
        :param attacks: attacks by name
        :param data: images and class numbers to attack
        :param cache: folder for finished batches
        :param options: keyword arguments of :func:`~.craft.craft_of`
        """
        self.model = model
        self.attacks = attacks
        self.data = data
        self.options = {"cache": cache, **options}
        self._made: dict[str, AdversarialExamples] = {}
        # of all before the first runs, as running one may change what it shares with others
        self._keys = {n: _key(a, model) for n, a in attacks.items()} if cache else {}

    def of(self, name: str) -> AdversarialExamples:
        """
        :param name: name of an attack
        :return: its successful images; none, and the error in the size, if it failed
        """
        if name not in self._made:
            attack, key = self.attacks[name], self._keys.get(name)
            options = {"name": name, "key": key, **self.options}
            try:
                self._made[name] = craft_of(self.model, attack, self.data, **options)
            except Exception as error:
                message = f"{type(error).__name__}: {error}".partition("\n")[0]
                warnings.warn(f"Failure while attacking with {name}: {message}", stacklevel=4)
                size = AttackSize(0, 0, math.nan, math.nan, error=message)
                none = torch.zeros(0, dtype=torch.int64)
                self._made[name] = AdversarialExamples(torch.zeros(0), none, none, size)
        return self._made[name]

    def sizes(self) -> dict[str, AttackSize]:
        """:return: success rate and size of each attack, which is run now if it was not yet"""
        return {name: self.of(name).size for name in self.attacks}


def _key(attack: Attack, model: nn.Module) -> str | None:
    if isinstance(attack, KeyedAttack):
        return attack.key
    try:
        return described(attack, {id(model): "the model"})
    except ValueError:
        return None  # crafting says so, if nothing else goes wrong before
