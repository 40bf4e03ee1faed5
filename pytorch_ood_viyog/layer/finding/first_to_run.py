"""
Which convolutions are a model's first layer: the first to execute, and those beside it that take
the very same tensor.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import Module

from ..convolution import Convolution
from ..hooks import PassHooks
from ..manners import as_found
from .branches import SEPARATOR
from .by_name import convolutions

__all__ = ["LayerReached", "first_to_run"]


class LayerReached(BaseException):
    """Ends a forward pass; no ``Exception``, so that the model's own handlers let it through."""


def first_to_run(model: Module, x: Tensor) -> str | None:
    """
    :param model: the unwrapped model
    :param x: a model input, as a batch
    :return: name of the first convolution to run, or the names of all that take the same tensor,
        in the order they run; where their maps differ in size, the one that sees most. ``None``
        if none runs. What the model raises is left for the pass that reads it.
    """
    with as_found(model), _Watch(convolutions(model)) as watch:  # noqa: SIM117
        with contextlib.suppress(LayerReached, Exception):
            model(x)
    return _name(watch)


class _Watch:
    """Which convolutions take the tensor that the first one takes."""

    def __init__(self, candidates: dict[str, Convolution]):
        self.candidates = candidates
        #: spatial shapes of their maps, by name, in the order they run
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._input: Tensor | None = None
        self._version: int | None = None
        self._awaited: set[str] = set()
        self._hooks = PassHooks()

    def __enter__(self) -> "_Watch":
        for name, module in self.candidates.items():
            self._hooks.before(module, self._remember(name))
            self._hooks.after(module, self._compare(name))
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()

    def _remember(self, name: str) -> Callable[..., None]:
        def hook(layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self.shapes:
                return
            self._input = _taken(args, kwargs)
            self._version = _version(self._input)
            self._awaited = self._like(self.candidates[name])
            self.shapes[name] = ()
            if len(self._awaited) == 1:
                raise LayerReached

        return hook

    def _like(self, conv: Convolution) -> set[str]:
        """Convolutions that could take the same tensor."""
        channels = conv.in_channels
        return {name for name, m in self.candidates.items() if m.in_channels == channels}

    def _compare(self, name: str) -> Callable[..., None]:
        def hook(
            layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> None:
            same = _taken(args, kwargs) is self._input and _version(self._input) == self._version
            if same and (name not in self.shapes or not self.shapes[name]):
                self.shapes[name] = tuple(output.shape[2:])
            self._awaited.discard(name)
            if not self._awaited:
                raise LayerReached

        return hook


def _taken(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return next(iter((*args, *kwargs.values())), None)


def _version(tensor: Any) -> int | None:
    """Counts changes in place, after which it is another tensor; not kept in inference mode."""
    if not isinstance(tensor, Tensor) or tensor.is_inference():
        return None
    return tensor._version


def _name(watch: _Watch) -> str | None:
    if len(set(watch.shapes.values())) > 1:
        layers = {name: watch.candidates[name] for name in watch.shapes}
        return max(layers, key=lambda name: _sees(layers[name]))
    return SEPARATOR.join(watch.shapes) or None


def _sees(conv: Convolution) -> tuple[int, int]:
    """How many directions of its window a convolution tells apart, and how large that is."""
    window = conv.in_channels * math.prod(conv.kernel_size)
    return min(conv.out_channels, window), window
