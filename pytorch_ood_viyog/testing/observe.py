"""
What must not change: everything about a user's model, and the random number generators. And what
the checks need to look: loaders, interrupted models, models in parts.
"""

import gc
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as torch_module

__all__ = [
    "InterruptError",
    "changes",
    "hooks_of",
    "in_micro_batches",
    "interrupted",
    "live_objects",
    "modules_of",
    "pairwise_auroc",
    "state_of",
]

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def pairwise_auroc(known: Tensor, unknown: Tensor) -> float:
    """Share of pairs in which the OOD sample scores higher than the ID sample, ties half."""
    one, other = known.double().flatten()[:, None], unknown.double().flatten()
    return float(((other > one).double() + 0.5 * (other == one)).mean())


def modules_of(detector: Any) -> list[Module]:
    """
    The modules that a detector's attributes hold: as they are, as the owner of a bound method, in
    lists and tuples, or in another detector; each once, and without those inside of others.
    """
    found: dict[int, Module] = {}
    pending = list(vars(detector).values())
    while pending:
        value = pending.pop(0)
        owner = getattr(value, "__self__", None)
        if isinstance(value, (list, tuple)):
            pending.extend(value)
        elif isinstance(value, Detector):
            pending.extend(vars(value).values())
        elif isinstance(value, Module):
            found[id(value)] = value
        elif isinstance(owner, Module):
            found[id(owner)] = owner
    inner = {id(m) for module in found.values() for m in list(module.modules())[1:]}
    return [module for key, module in found.items() if key not in inner]


def hooks_of(models: list[Module]) -> list[str]:
    """One line for each hook on any of the models' modules, and for each global hook."""
    kinds = [f"_global{name}" for name in _HOOKS[:4]]
    found = [f"global {kind} {key}" for kind in kinds for key in getattr(torch_module, kind, {})]
    for index, model in enumerate(models):
        for path, module in model.named_modules():
            for kind in _HOOKS:
                keys = getattr(module, kind, {})
                found += [f"model {index} {path!r} {kind} {key}" for key in keys]
    return found


class InterruptError(Exception):
    """Raised in the middle of a user's model."""


@contextmanager
def interrupted(layer: Module) -> Iterator[None]:
    """Inside the block, a layer of a model raises :class:`InterruptError`."""

    def interrupt(*_: Any) -> None:
        raise InterruptError(f"{type(layer).__name__} was interrupted")

    handle = layer.register_forward_pre_hook(interrupt)
    try:
        yield
    finally:
        handle.remove()


def live_objects() -> int:
    """Number of objects that Python's garbage collector knows, after collecting."""
    gc.collect()
    return len(gc.get_objects())


def state_of(models: list[Module]) -> dict[str, dict[Any, Any]]:
    """Models, random number generators and global settings of torch at this moment."""
    named = [(f"{i}.{n}", m) for i, model in enumerate(models) for n, m in model.named_modules()]
    parameters = {f"{k}.{n}": p for k, m in named for n, p in m._parameters.items()}
    parameters = {k: p for k, p in parameters.items() if p is not None}
    buffers = {f"{k}.{n}": b for k, m in named for n, b in m._buffers.items() if b is not None}
    tensors = {**parameters, **buffers}
    return {
        "modes": {k: m.training for k, m in named},
        "hooks": dict.fromkeys(hooks_of(models)),
        "attributes": {k: sorted(vars(m)) for k, m in named},
        "parameters": {k: p.detach().clone() for k, p in parameters.items()},
        "gradients": {k: p.grad.clone() for k, p in parameters.items() if p.grad is not None},
        "buffers": {k: b.detach().clone() for k, b in buffers.items()},
        "requires_grad": {k: p.requires_grad for k, p in parameters.items()},
        "devices": {k: t.device for k, t in tensors.items()},
        "dtypes": {k: t.dtype for k, t in tensors.items()},
        "random_state": _random_state(),
        "gradients_on": {"torch": torch.is_grad_enabled()},
    }


def changes(
    before: dict[str, dict[Any, Any]], after: dict[str, dict[Any, Any]], but: tuple[str, ...] = ()
) -> list[str]:
    """What is not as it was, each with the entries that changed."""
    found = []
    for what in before:
        one, two = before[what], after[what]
        keys = [str(k) for k in one | two if k not in one or k not in two or _differ(one, two, k)]
        if keys and what not in but:
            more = " and more" if len(keys) > 5 else ""
            found.append(f"{what} ({', '.join(keys[:5])}{more})")
    return found


def _differ(before: dict[Any, Any], after: dict[Any, Any], key: Any) -> bool:
    one, two = before[key], after[key]
    if isinstance(one, Tensor):
        return one.dtype != two.dtype or not torch.equal(one.cpu(), two.cpu())
    return bool(one != two)


def _random_state() -> dict[str, bytes]:
    state = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),
        "random": pickle.dumps(random.getstate()),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().numpy().tobytes()
    return state


@contextmanager
def in_micro_batches(models: list[Module], size: int = 3) -> Iterator[None]:
    """Inside the block, modules run on parts of their batch, one part after the other."""
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(patch.object(model, "forward", _in_parts(model.forward, size)))
        yield


def _in_parts(forward: Callable[..., Any], size: int) -> Callable[..., Any]:
    def run(x: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(x, Tensor) or x.dim() == 0 or len(x) <= size:
            return forward(x, *args, **kwargs)
        outputs = [forward(part, *args, **kwargs) for part in torch.split(x, size)]
        if all(isinstance(output, Tensor) for output in outputs):
            return torch.cat(outputs)
        return forward(x, *args, **kwargs)  # not known how to join

    return run
