"""
Watches one whole forward pass: which convolutions run, on what, and which of them belong together.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import Module

from ..convolution import Convolution
from ..hooks import PassHooks
from .composed import SEPARATOR
from .relation import affine_gains
from .trace import Origin, Trace, is_followed

__all__ = ["Call", "Watch", "first_tensor"]


@dataclass
class Call:
    """A run of a convolution."""

    name: str
    #: what it took, as a sign of which tensor it was; ``None`` where it does not come from the
    #: image alone
    taken: Tensor | None
    #: how often that tensor had been changed in place
    version: int | None
    #: number of its rows
    rows: int
    #: where its input came from
    origin: Origin
    #: see :func:`affine_gains`
    gains: tuple[float, ...] | None
    #: spatial shape of its maps
    shape: tuple[int, ...] = ()


class Watch:
    """Hooks for one forward pass of the unwrapped model on ``x``, on the named layers."""

    def __init__(self, model: Module, layers: Mapping[str, Module], x: Tensor):
        self.layers = layers
        self.trace = Trace()
        #: runs of the layers, in their order
        self.calls: list[Call] = []
        #: modules that hold several of them -> the tensor that they took, its version, and what
        #: their output is a sum of
        self.parents: dict[str, tuple[Tensor, int | None, frozenset[str]]] = {}
        self._x = x.detach().clone()  # the model may change it in place
        if is_followed(x):
            self.trace.mark(x, Origin())
        self._hooks = PassHooks()
        for name, module in layers.items():
            self._hooks.before(module, self._before(name))
            self._hooks.after(module, self._after(name))
        prefixes = [p for name in layers for p in _prefixes(name)]
        for name in {p for p in prefixes if prefixes.count(p) > 1}:
            self._hooks.after(model.get_submodule(name), self._parent(name))

    def __enter__(self) -> "Watch":
        self.trace.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self.trace.__exit__(*error)  # type: ignore[no-untyped-call]
        self._hooks.__exit__()

    def _before(self, name: str) -> Callable[..., None]:
        def hook(layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            taken = first_tensor(args, kwargs)
            if taken is None:
                return
            origin = self.trace.of(taken)
            gains = affine_gains(taken, self._x)
            early = origin is None or not origin.after or gains
            rows = len(taken) if taken.dim() else 0
            kept = taken if early else None
            call = Call(name, kept, _version(taken), rows, origin or Origin(), gains)
            self.calls.append(call)

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(layer: Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            taken = first_tensor(args, kwargs)
            own = [call for call in self.calls if call.name == name]
            if taken is not None and own and isinstance(output, Tensor):
                own[-1].shape = tuple(output.shape[2:])
                self.trace.passed(name, taken, output)

        return hook

    def _parent(self, name: str) -> Callable[..., None]:
        def hook(module: Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            taken, origin = first_tensor(args, kwargs), self.trace.of(output)
            if taken is not None and origin is not None and len(origin.sums) > 1:
                self.parents.setdefault(name, (taken, _version(taken), origin.sums))

        return hook

    def layer_of(self, leader: Call) -> str:
        """
        Name of the layer that a convolution belongs to, of which this is the first run: the module
        that takes the same tensor and gives the sum of all convolutions of that tensor, or those
        that come together in one sum, or of several that do not the one that sees most.
        """
        alike = {leader.name: leader}
        for call in self.calls:
            if call.taken is not None and _same(call, leader.taken, leader.version):
                alike.setdefault(call.name, call)
        sees = {name: _sees(self.layers[name]) for name in alike}
        group = max(self._groups([*alike]), key=lambda names: max(sees[name] for name in names))
        if len(group) == 1:
            return group[0]
        inside = [
            name
            for name, (taken, version, sums) in self.parents.items()
            if _same(leader, taken, version) and sums >= set(group)
            if all(own.startswith(name + ".") for own in group)
        ]
        if inside:
            return max(inside, key=len)
        if len({alike[name].shape for name in group}) > 1:
            return max(group, key=lambda name: sees[name])
        return SEPARATOR.join(group)

    def _groups(self, names: list[str]) -> list[list[str]]:
        """Names of layers that come together in a sum, in the order they run."""
        groups = [{name} for name in names]
        for joined in self.trace.joined:
            together = [group for group in groups if group & joined]
            groups = [group for group in groups if not group & joined]
            groups += [set().union(*together)] if together else []
        return [[name for name in names if name in group] for group in groups]


def first_tensor(args: Any, kwargs: dict[str, Any]) -> Tensor | None:
    """:return: the first argument of a module, if that is a tensor"""
    first = next(iter((*args, *kwargs.values())), None)
    return first if isinstance(first, Tensor) else None


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _same(call: Call, taken: Tensor | None, version: int | None) -> bool:
    return call.taken is taken and taken is not None and call.version == version


def _version(tensor: Tensor) -> int | None:
    """Counts changes in place, after which it is another tensor; not kept in inference mode."""
    return None if tensor.is_inference() else tensor._version


def _sees(layer: Module) -> tuple[int, int]:
    """How many directions of its window a convolution tells apart, and how large that is."""
    if not isinstance(layer, Convolution):
        return (0, 0)
    window = layer.in_channels * math.prod(layer.kernel_size)
    return min(layer.out_channels, window), window
