"""
What stored work belongs to: settings of any object as text, data and behaviour as digests.
"""

import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .cache import digest
from .logits import checked_logits

__all__ = ["data_digest", "described", "model_digest"]

_PLAIN = (str, bytes, bool, int, float, complex, type(None), torch.device, torch.dtype, range)
_SAMPLED = 1000
_PROBED = 8


def described(thing: Any, named: Mapping[int, str] | None = None) -> str:
    """
    The settings of an object as text that is the same in another process: attributes, also
    private ones, of whatever it holds; functions by code, defaults and what they close over;
    arrays and weights by their digests.

    :param thing: an attack, a detector or a part of one
    :param named: what stands for the object of an id, such as the model
    :return: the text
    :raises ValueError: if it holds something whose settings cannot be told
    """
    return _Describing(named or {}).text(thing)


class _Describing:
    """One walk through an object. What was met before is named by its number."""

    def __init__(self, named: Mapping[int, str]) -> None:
        self._met = dict(named)
        self._alive: list[Any] = []  # an id is another object's once its own is gone

    def text(self, thing: Any) -> str:
        if isinstance(thing, _PLAIN):
            return repr(thing)
        if id(thing) in self._met:
            return self._met[id(thing)]
        self._met[id(thing)] = f"#{len(self._met)}"
        self._alive.append(thing)
        return self._new(thing)

    def _new(self, thing: Any) -> str:
        if isinstance(thing, (Tensor, np.ndarray, np.generic)):
            return f"{type(thing).__name__}({_digest_of(thing)})"
        if isinstance(thing, Mapping):
            return f"{{{self._all(part for pair in thing.items() for part in pair)}}}"
        if isinstance(thing, (set, frozenset)):
            return f"{{{', '.join(sorted(map(self.text, thing)))}}}"
        if isinstance(thing, (list, tuple)):
            return f"{type(thing).__name__}[{self._all(thing)}]"
        if isinstance(thing, functools.partial):
            return f"partial({self._all([thing.func, thing.args, thing.keywords])})"
        if isinstance(thing, MethodType):
            return f"method({self._all([thing.__func__, thing.__self__])})"
        if isinstance(thing, FunctionType):
            return self._function(thing)
        if isinstance(thing, CodeType):
            return self._code(thing)
        if isinstance(thing, ModuleType):
            return thing.__name__
        if isinstance(thing, type) or inspect.isbuiltin(thing):
            return f"{thing.__module__}.{thing.__qualname__}"
        return self._object(thing)

    def _all(self, things: Iterable[Any]) -> str:
        return ", ".join(self.text(thing) for thing in things)

    def _function(self, function: FunctionType) -> str:
        code = function.__code__
        held = [cell.cell_contents for cell in function.__closure__ or ()]
        # constants and helpers of the same module that the code names
        used = {n: function.__globals__[n] for n in code.co_names if n in function.__globals__}
        own = {n: v for n, v in used.items() if _belongs(v, function.__module__)}
        parts = [function.__defaults__, function.__kwdefaults__, code, held, own]
        return f"{_named(function)}({self._all(parts)})"

    def _code(self, code: CodeType) -> str:
        return f"{code.co_code.hex()} {code.co_names} {self._all(code.co_consts)}"

    def _object(self, thing: Any) -> str:
        if isinstance(thing, nn.Module):
            state = [*thing.named_parameters(), *thing.named_buffers()]
            own = [_public(module) for module in thing.modules()]
            shown = re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
            return f"{_named(type(thing))} {shown}({self._all([own, state])})"
        if isinstance(thing, torch.Generator):
            return f"Generator({thing.initial_seed()})"
        if (told := _told(thing)) is not None:
            return f"{_named(type(thing))} {told}"
        held = dict(getattr(thing, "__dict__", {}))
        slots = (n for kind in type(thing).__mro__ for n in getattr(kind, "__slots__", ()))
        held |= {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
        if not held and not callable(thing):
            raise ValueError(
                f"The settings of a {_named(type(thing))} cannot be told, so nothing can be "
                f"stored under it: give key= with a text that does."
            )
        code = type(thing).__call__ if callable(thing) else None
        return f"{_named(type(thing))}({self._all([held, code])})"


# what tells less by its repr than what it is set to
_MODEST = (
    *("torchattacks.", "foolbox.", "art.", "secmlt.", "pytorch_ood.", "sklearn."),
    f"{__package__}.adapters",
)


def _told(thing: Any) -> str | None:
    """What an object says of itself, if that is to be relied on."""
    kind = type(thing)
    if any(base.__module__.startswith(_MODEST) for base in kind.__mro__):
        return None
    if "object.__repr__" in repr(kind.__repr__):  # inherited
        return None
    text = repr(thing)
    return None if " at 0x" in text else text


def _public(module: nn.Module) -> dict[str, Any]:
    found = vars(module).items()
    return {name: value for name, value in found if name[0] != "_" and name != "training"}


def _belongs(value: Any, module: str) -> bool:
    if isinstance(value, FunctionType):
        return value.__module__ == module
    return isinstance(value, (*_PLAIN, tuple, list, Tensor, np.ndarray))


def _named(thing: Any) -> str:
    package = str(thing.__module__).split(".")[0]
    return f"{thing.__module__}.{thing.__qualname__}{_version(package)}"


@functools.cache
def _version(package: str) -> str:
    if package in ("__main__", "builtins") or package in sys.stdlib_module_names:
        return ""
    try:
        return f"@{metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"@{getattr(sys.modules.get(package), '__version__', '')}"


def _digest_of(array: Any) -> str:
    found: Any = array.detach().cpu() if isinstance(array, Tensor) else array
    result = hashlib.sha256(f"{found.dtype}{tuple(found.shape)}".encode())
    if isinstance(found, Tensor):  # by its bytes, as NumPy lacks some types
        found = found.contiguous().reshape(-1).view(torch.uint8).numpy() if found.numel() else b""
    result.update(found if isinstance(found, bytes) else np.asarray(found).tobytes())
    return result.hexdigest()[:16]


def data_digest(data: Any) -> str:
    """:return: digest of a data set's length and samples, of 1,000 evenly spread ones of more"""
    count = len(data)
    result = hashlib.sha256(str(count).encode())
    for index in range(count) if count <= _SAMPLED else np.linspace(0, count - 1, _SAMPLED):
        image, label = data[int(index)]
        result.update(f"{_digest_of(image)} {int(label)}".encode())
    return result.hexdigest()[:16]


def model_digest(model: nn.Module, data: Any, settings: str) -> str:
    """:return: digest of a classifier's weights, of its answers to a few images, and of a text"""
    x = torch.stack([data[i][0] for i in range(min(_PROBED, len(data)))])
    device = next((p.device for p in model.parameters()), x.device)
    answers = _behaviour(checked_logits(model, x.to(device)))
    return digest(model, x[:0], x[:0], f"{settings}\n{answers}")


def _behaviour(logits: Tensor) -> str:
    """Classes and sizes of logits, in digits that do not depend on the number of threads."""
    first = logits.double().cpu()
    classes = " ".join(map(str, first.argmax(1).tolist()))
    sizes = torch.cat([first.amax(1), first.mean(1), first.std(1)])
    return f"{classes} {' '.join(f'{size:.2g}' for size in sizes.tolist())}"
