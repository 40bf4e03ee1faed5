"""Proof that a model is left as found."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


def count_hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Mode, weights, buffers, gradients, devices, hooks and random state are kept in the block."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = _look_at(model)
    yield
    after = _look_at(model)
    for what, value in before.items():
        assert after[what] == value, f"{what} changed"
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


def _look_at(model: nn.Module) -> dict[str, Any]:
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": count_hooks(model),
        "devices": [p.device for p in model.parameters()],
        "gradients": [(p.requires_grad, p.grad is None) for p in model.parameters()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
    }
