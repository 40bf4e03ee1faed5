"""
What must not change: everything about a user's model, and the random number generators.
"""

import gc
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as torch_module

__all__ = [
    "InterruptError",
    "Snapshot",
    "hooks_of",
    "in_micro_batches",
    "interrupted",
    "live_objects",
    "modules_of",
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
_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def modules_of(detector: Any) -> list[Module]:
    """
    :param detector: any detector
    :return: the modules that its attributes hold: as they are, as the owner of a bound method, in
        lists and tuples, or in another detector; each once, and without those inside of others
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
    """
    :param models: modules to look into
    :return: one line for each hook on any of their submodules, and for each global hook
    """
    found = [f"global {name} {key}" for name in _GLOBAL_HOOKS for key in _keys(torch_module, name)]
    for index, model in enumerate(models):
        for path, module in model.named_modules():
            for name in _HOOKS:
                found += [f"model {index} {path!r} {name} {k}" for k in _keys(module, name)]
    return found


class InterruptError(Exception):
    """Raised in the middle of a user's model."""


@contextmanager
def interrupted(layer: Module) -> Iterator[None]:
    """
    :param layer: layer of a model that raises :class:`InterruptError` inside the block
    """

    def interrupt(*_: Any) -> None:
        raise InterruptError(f"{type(layer).__name__} was interrupted")

    handle = layer.register_forward_pre_hook(interrupt)
    try:
        yield
    finally:
        handle.remove()


def live_objects() -> int:
    """:return: number of objects that Python's garbage collector knows, after collecting"""
    gc.collect()
    return len(gc.get_objects())


@dataclass(frozen=True)
class Snapshot:
    """Models, random number generators and global settings of torch at one moment."""

    modes: dict[str, bool]
    hooks: list[str]
    attributes: dict[str, list[str]]
    parameters: dict[str, Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    requires_grad: dict[str, bool]
    devices: dict[str, str]
    dtypes: dict[str, str]
    random_state: dict[str, str]
    gradients_on: bool

    @classmethod
    def of(cls, models: list[Module]) -> "Snapshot":
        """
        :param models: the user's modules
        :return: their state and that of the process
        """
        modules = {f"{i}.{n}": m for i, model in enumerate(models) for n, m in _named(model)}
        parameters = {f"{k}.{n}": p for k, m in modules.items() for n, p in _own(m._parameters)}
        buffers = {f"{k}.{n}": b for k, m in modules.items() for n, b in _own(m._buffers)}
        tensors = {**parameters, **buffers}
        return cls(
            modes={k: m.training for k, m in modules.items()},
            hooks=hooks_of(models),
            attributes={k: sorted(vars(m)) for k, m in modules.items()},
            parameters={k: p.detach().clone() for k, p in parameters.items()},
            gradients={k: p.grad.clone() for k, p in parameters.items() if p.grad is not None},
            buffers={k: b.detach().clone() for k, b in buffers.items()},
            requires_grad={k: p.requires_grad for k, p in parameters.items()},
            devices={k: str(t.device) for k, t in tensors.items()},
            dtypes={k: str(t.dtype) for k, t in tensors.items()},
            random_state=_random_state(),
            gradients_on=torch.is_grad_enabled(),
        )

    def changes(self, later: "Snapshot", but: tuple[str, ...] = ()) -> list[str]:
        """
        :param later: a snapshot taken afterwards
        :param but: fields to leave out
        :return: names of what is not as it was, each with the entries that changed
        """
        names = [field.name for field in fields(self) if field.name not in but]
        pairs = {name: (getattr(self, name), getattr(later, name)) for name in names}
        return [
            f"{name} ({_difference(before, after)})"
            for name, (before, after) in pairs.items()
            if not _same(before, after)
        ]


def _named(model: Module) -> list[tuple[str, Module]]:
    return list(model.named_modules())


def _own(tensors: Mapping[str, Tensor | None]) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in tensors.items() if tensor is not None]


def _keys(owner: Any, name: str) -> list[Any]:
    return list(getattr(owner, name, {}))


def _random_state() -> dict[str, str]:
    state = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),
        "random": pickle.dumps(random.getstate()),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().numpy().tobytes()
    return {name: str(hash(value)) for name, value in state.items()}


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return before.dtype == after.dtype and torch.equal(before.cpu(), after.cpu())
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(_same(before[k], after[k]) for k in before)
    return bool(before == after)


def _difference(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        changed = [
            key
            for key in (before | after)
            if key not in before or key not in after or not _same(before[key], after[key])
        ]
        return ", ".join(changed[:5]) + (" and more" if len(changed) > 5 else "")
    if isinstance(before, list):
        return f"{len(before)} before, {len(after)} after"
    return f"{before} before, {after} after"


@contextmanager
def in_micro_batches(models: list[Module], size: int = 3) -> Iterator[None]:
    """
    Let modules run on parts of their batch inside the block, one part after the other.

    :param models: modules that take a batch first
    :param size: samples in a part
    """
    found = [dict(vars(model)) for model in models]
    for model in models:
        model.__dict__["forward"] = _in_parts(model.forward, size)
    try:
        yield
    finally:
        for model, attributes in zip(models, found, strict=True):
            model.__dict__.pop("forward", None)
            if "forward" in attributes:
                model.__dict__["forward"] = attributes["forward"]


def _in_parts(forward: Callable[..., Any], size: int) -> Callable[..., Any]:
    def run(x: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(x, Tensor) or x.dim() == 0 or len(x) <= size:
            return forward(x, *args, **kwargs)
        outputs = [forward(part, *args, **kwargs) for part in torch.split(x, size)]
        if all(isinstance(output, Tensor) for output in outputs):
            return torch.cat(outputs)
        return forward(x, *args, **kwargs)  # not known how to join

    return run
