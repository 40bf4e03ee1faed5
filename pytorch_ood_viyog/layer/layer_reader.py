"""
Reads a layer in a forward pass, by hooks that live as long as the pass.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from .convolution import CONVOLUTIONS
from .finding import Branches, Path, Runs, Stem
from .hooks import LayerReached, PassHooks
from .layer_call import LayerCall

__all__ = ["LayerReader"]


class LayerReader:
    """
    A hook on one layer, for one forward pass of one thread. A layer that runs on parts of the
    batch, or several times, is read when all rows of all samples are there.
    """

    def __init__(
        self,
        layer: Module,
        name: str,
        x: Tensor,
        read: Callable[[LayerCall], Any],
        runs: Runs,
        path: Path | None,
        *,
        stop: bool = False,
        replace: bool = False,
    ):
        """
        :param x: the batch of model inputs that is about to pass
        :param read: called once, at the layer
        :param stop: whether the forward pass ends at the layer, before the layer itself runs
        :param replace: whether what is read takes the place of the layer's output; it is then
            called for each run
        """
        self.layer = layer
        self.name = name
        self.read = read
        self.runs = runs
        self.path = path
        self.stop = stop
        self.replace = replace
        self.hooks = PassHooks()
        #: what the reader returned or raised
        self.outcome: list[tuple[Any, Exception | None]] = []
        #: number of runs, and of the rows in those that count
        self.calls, self.rows = 0, 0
        self._x = x
        self._wanted = len(x) * runs.per_sample
        self._parts: list[LayerCall] = []
        self._busy = False

    def __enter__(self) -> Self:
        hooked = self.layer
        if isinstance(hooked, Branches):
            hooked = hooked.convolutions[0]
        elif isinstance(hooked, Stem):
            hooked = hooked.last
        (self.hooks.before if self.stop else self.hooks.after)(hooked, self._hook)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.hooks.__exit__()
        return kind is not None and issubclass(kind, LayerReached)

    @property
    def complete(self) -> bool:
        """Whether all rows were seen, or an error ended the pass."""
        return bool(self.outcome) and (self.rows == self._wanted or self.outcome[0][1] is not None)

    @property
    def in_parts(self) -> bool:
        """Whether the rows came in several runs."""
        return len(self._parts) > 0

    def _hook(
        self, layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None
    ) -> Any:
        if self.complete or self.rows > self._wanted or self._busy:
            return None
        number, self.calls = self.calls, self.calls + 1
        if self.runs.calls is not None and number not in self.runs.calls:
            return None
        try:
            call = self._call(layer, args, kwargs, output)
            self.rows += len(call.input)
            if self.rows > self._wanted:
                return None
            if self.replace:
                return self._replaced(call)
            if len(call.input) != self._wanted:
                self._parts.append(_kept(call))
                if self.rows < self._wanted:
                    return None
                call = self._joined()
            if self.runs.per_sample > 1:
                call = replace(call, rows=self.runs.rows(len(self._x)))
            self._conclude(call)
        except LayerReached:
            raise
        except Exception as error:  # kept: the model's own handlers must not swallow it
            self.outcome[:] = [(None, error)]
            raise LayerReached from None
        if self.stop:
            raise LayerReached
        return None

    def _conclude(self, call: LayerCall) -> None:
        self._busy = True  # a stem that is asked what it does runs the model again
        try:
            with torch.no_grad():  # the model may have switched gradients on
                self.outcome.append((self.read(call), None))
        finally:
            self._busy = False

    def _replaced(self, call: LayerCall) -> Any:
        part = slice(self.rows - len(call.input), self.rows)
        if len(call.input) != len(self._x):
            self._parts.append(call)
            call = replace(call, rows=replace(self.runs.rows(len(self._x)), part=part))
        with torch.no_grad():
            instead = self.read(call)
        self.outcome[:] = [(instead, None)]
        return instead

    def _call(
        self, layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> LayerCall:
        taken = _taken(self.name, layer, args, kwargs)
        if isinstance(self.layer, Stem):
            maps, x = self.layer.maps_of, self._x
            if output is not None:
                return LayerCall(self.layer, x, maps(output, x), None, self.path)
            compute = lambda: maps(layer.forward(taken), x)  # noqa: E731
            return LayerCall(self.layer, x, None, None, self.path, compute)
        raw = None if isinstance(self.layer, Branches) else output
        return LayerCall(self.layer, taken, raw, None, self.path)

    def _joined(self) -> LayerCall:
        shapes = {tuple(part.input.shape[1:]) for part in self._parts}
        if len(shapes) > 1:
            raise RuntimeError(
                f"Layer {self.name!r} takes inputs of several shapes in one pass, "
                f"{sorted(shapes)}: which of them is to be read is not clear. Give the part of "
                f"the model that takes one of them."
            )
        inputs = torch.cat([part.input for part in self._parts])
        outputs = [part.output for part in self._parts if part.output is not None]
        return replace(
            self._parts[0], input=inputs, output=torch.cat(outputs) if outputs else None
        )


def _kept(call: LayerCall) -> LayerCall:
    """Copies: what comes after the layer may work in place."""
    output = None if call.output is None else call.output.clone()
    return replace(call, input=call.input.clone(), output=output)


def _taken(name: str, layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
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
    if isinstance(layer, CONVOLUTIONS) and not inputs[0].is_floating_point():
        raise TypeError(
            f"Layer {name!r} takes floating point numbers, got {inputs[0].dtype}. Convert the "
            f"inputs as the model expects them, such as x.float() / 255."
        )
    return inputs[0]
