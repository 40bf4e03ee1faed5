"""
Work of detectors on somebody's model: exceptions as text, the model afterwards as it was.
"""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.nn import Module

from ...layer.manners import as_found_with_gradients, unwrap
from ..attacks.foreign.guard import ModelState

__all__ = ["Attempts"]

T = TypeVar("T")


class Attempts:
    """Runs what detectors do with one model, in evaluation mode and with one seed."""

    def __init__(self, model: Module, seed: int):
        """
        :param model: the model that detectors judge
        :param seed: seed of each attempt
        """
        self.model = unwrap(model)
        self.seed = seed
        self._state = ModelState(self.model)

    def outcome(self, what: str | None, work: Callable[[], T]) -> T | str:
        """
        Mode, gradients and random state are afterwards as found.

        :param what: what is done, for a warning about an exception; ``None`` for no warning
        :param work: what to do
        :return: what it returns, or its exception as text
        """
        try:
            with as_found_with_gradients(self.model):
                torch.manual_seed(self.seed)
                return work()
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            if what is not None:
                warnings.warn(f"Failure while {what}: {message}", stacklevel=3)
            return message
        finally:
            self._state.give_back_modes()

    def give_back(self, who: str) -> None:
        """
        Put weights and buffers back, with a warning where they were changed.

        :param who: may have changed them
        """
        if self._state.give_back_values():
            warnings.warn(
                f"{who} changed weights or buffers of the model, which were put back.",
                stacklevel=3,
            )
