"""
Foreign code with the user's model: whatever an attack does to it, it is given back as it was.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from ...layer.manners import as_found

__all__ = ["ModelState", "foreign_code"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class ModelState:
    """A copy of all that foreign code may change in a model: about as large as the model."""

    def __init__(self, model: Module):
        self.model = model
        self._modules = [
            (m, m.training, m._parameters.copy(), m._buffers.copy(), _hooks(m))
            for m in model.modules()
        ]
        tensors = [*model.parameters(), *model.buffers()]
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self._gradients = [(p, p.requires_grad, p.grad) for p in model.parameters()]

    def give_back(self) -> None:
        """Modes, weights, buffers, hooks and gradients are afterwards as they were copied."""
        for module, _, parameters, buffers, hooks in self._modules:
            _refill(module._parameters, parameters)
            _refill(module._buffers, buffers)
            for name, found in hooks.items():
                _refill(getattr(module, name), found)
        self.give_back_modes()
        self.give_back_values()

    def give_back_modes(self) -> None:
        """Training or evaluation mode of each module is afterwards as it was copied."""
        for module, training, *_ in self._modules:
            module.training = training

    @torch.no_grad()
    def give_back_values(self) -> bool:
        """:return: whether weights or buffers had to be put back; gradients are, too"""
        moved = [(tensor, value) for tensor, value in self._values if not _same(tensor, value)]
        for tensor, value in moved:
            tensor.data = value.clone()
        for parameter, requires_grad, gradient in self._gradients:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
        return bool(moved)


def _hooks(module: Module) -> dict[str, dict[Any, Any]]:
    return {name: dict(getattr(module, name)) for name in _HOOKS}


def _refill(now: dict[Any, Any], found: dict[Any, Any]) -> None:
    # the keys are compared by themselves: == of two tensors is none of two dictionaries
    if list(map(id, now.values())) != list(map(id, found.values())) or list(now) != list(found):
        now.clear()
        now.update(found)


def _same(tensor: Tensor, value: Tensor) -> bool:
    if tensor.is_meta and value.is_meta:  # offloaded: there is nothing to compare
        return True
    return (
        (tensor.device, tensor.dtype) == (value.device, value.dtype)
        and tensor.shape == value.shape
        and torch.equal(tensor, value)
    )


@contextmanager
def foreign_code(state: ModelState, seed: int) -> Iterator[None]:
    """
    Run foreign code: the model in evaluation mode, gradients for the input alone, the random
    numbers of Python, NumPy and torch seeded, images in double precision cast to the model's.
    Model and random numbers are afterwards as found, also after an exception.
    """
    model = state.model
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with as_found(model), torch.enable_grad():
            for parameter in model.parameters():
                parameter.requires_grad_(False)
                parameter.grad = None
            # at each layer, as some libraries call those of a Sequential one by one
            for module in model.modules():
                if module._parameters and not isinstance(module, torch.jit.ScriptModule):
                    module.register_forward_pre_hook(_in_own_precision)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        state.give_back()


def _in_own_precision(module: Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    own = next((p.dtype for p in module.parameters(False) if p.is_floating_point()), None)
    return tuple(
        value.to(own) if isinstance(value, Tensor) and value.dtype == torch.float64 else value
        for value in inputs
    )
