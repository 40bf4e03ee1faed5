"""
Reads a layer in a forward pass, by hooks that live as long as the pass.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .convolution import CONVOLUTIONS
from .finding.branches import names_in
from .finding.first_to_run import LayerReached
from .hooks import PassHooks
from .layer_call import LayerCall

__all__ = ["LayerReader"]


class LayerReader:
    """Hooks on all candidates, for one forward pass of one thread; the first to run is read."""

    def __init__(
        self,
        found: Callable[[str], Module],
        candidates: dict[str, Module],
        read: Callable[[LayerCall], Any],
        stop: bool,
        replace: bool = False,
    ):
        """
        :param found: told the name of the layer before it is read, gives the layer
        :param candidates: modules by name, of which the first to run belongs to the layer
        :param read: called once, at the layer
        :param stop: whether the forward pass ends at the layer, before the layer itself runs
        :param replace: whether what is read takes the place of the layer's output
        """
        self.found = found
        self.candidates = candidates
        self.read = read
        self.stop = stop
        self.replace = replace
        self.hooks = PassHooks()
        #: what the reader returned or raised
        self.outcome: list[tuple[Any, Exception | None]] = []

    def __enter__(self) -> None:
        register = self.hooks.before if self.stop else self.hooks.after
        for name, module in self.candidates.items():
            register(module, self._hook(name))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.hooks.__exit__()
        return kind is not None and issubclass(kind, LayerReached)

    def _hook(self, name: str) -> Callable[..., Any]:
        def hook(
            layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None
        ) -> Any:
            if self.outcome:
                return None
            try:
                whole = self.found(name)
                call = _call(name, layer, args, kwargs, output)
                if len(names_in(name)) > 1:
                    call = LayerCall(whole, call.input)
                with torch.no_grad():  # the model may have switched gradients on
                    self.outcome.append((self.read(call), None))
            except Exception as error:  # kept: the model's own handlers must not swallow it
                self.outcome.append((None, error))
                raise LayerReached from None
            if self.stop:
                raise LayerReached
            return self.outcome[0][0] if self.replace else None

        return hook


def _call(
    name: str, layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> LayerCall:
    inputs = (*args, *kwargs.values())
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        raise TypeError(
            f"Layer {name!r} must take one tensor, got {[type(i).__name__ for i in inputs]}. "
            f"Name a convolution by layer='...'."
        )
    if isinstance(layer, CONVOLUTIONS) and inputs[0].dim() != layer.weight.dim():
        # torch would take an unbatched input and the channels would pass for samples
        raise ValueError(
            f"Layer {name!r} must be given a batch of {layer.weight.dim()} dimensions, got shape "
            f"{tuple(inputs[0].shape)}. Add the batch dimension by x.unsqueeze(0)."
        )
    return LayerCall(layer, inputs[0], output)
