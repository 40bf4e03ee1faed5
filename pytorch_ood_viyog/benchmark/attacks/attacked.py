"""
The images that several attacks make of one data set. What goes wrong in one is told in its size.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ...layer.manners import warn_user
from .as_attack import Attack, as_attack
from .craft import AdversarialExamples, craft_of, key_of
from .size import AttackSize

__all__ = ["AttackedImages", "named_attacks"]


def named_attacks(attacks: Mapping[str, Any]) -> dict[str, Attack]:
    """:return: attacks by name, as this package calls them; errors tell the name"""
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
        """Images and class numbers to attack, and keyword arguments of :func:`~.craft.craft_of`"""
        self.model = model
        self.attacks = attacks
        self.data = data
        self.options = {"cache": cache, **options}
        self._made: dict[str, AdversarialExamples] = {}
        # of all before the first runs, as running one may change what it shares with others
        self._keys: dict[str, str] = {}
        for name, attack in attacks.items() if cache else ():
            with suppress(ValueError):  # crafting says so, if nothing else goes wrong before
                self._keys[name] = key_of(attack, model)

    def of(self, name: str) -> AdversarialExamples:
        """:return: what one attack made; nothing, and the error in the size, if it failed"""
        if name not in self._made:
            options = {"name": name, "key": self._keys.get(name), **self.options}
            try:
                made = craft_of(self.model, self.attacks[name], self.data, **options)
            except Exception as error:
                message = f"{type(error).__name__}: {error}".partition("\n")[0]
                warn_user(f"Failure while attacking with {name}: {message}")
                size = AttackSize(0, 0, math.nan, math.nan, error=message)
                none = torch.zeros(0, dtype=torch.int64)
                made = AdversarialExamples(torch.zeros(0), none, none, size)
            self._made[name] = made
        return self._made[name]

    def sizes(self) -> dict[str, AttackSize]:
        """:return: success rate and size of each attack, which is run now if it was not yet"""
        return {name: self.of(name).size for name in self.attacks}
