"""
Layers that stand in for layers of a model and leave what they see for the end of the same pass,
so that no hooks are needed.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..layer.finding import Runs, Stem
from ..layer.layer_call import LayerCall
from .scorers import Scorers

__all__ = ["PurifiedLayer", "ScoredLayer", "Slot", "WatchedLayer", "put_in_place"]

T = TypeVar("T")


class Slot(Generic[T]):
    """Carries a value from a layer to the end of the same pass of the same thread."""

    def __init__(self) -> None:
        self._traced: T | None = None
        self._local = threading.local()

    def put(self, value: T | None) -> None:
        """``None`` is for nothing."""
        if torch.compiler.is_compiling():  # a trace has one thread and cannot see the other kind
            self._traced = value
        else:
            self._local.value = value

    def peek(self) -> T | None:
        """:return: the value, which stays"""
        if torch.compiler.is_compiling():
            return self._traced
        return getattr(self._local, "value", None)

    def take(self) -> T | None:
        """:return: the value, which is then gone"""
        value = self.peek()
        self.put(None)
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> "Slot[T]":
        memo[id(self)] = copied = Slot[T]()
        return copied

    def __reduce__(self) -> "tuple[type[Slot[T]], tuple[()]]":
        return Slot, ()


class _StandIn(Module):
    """Passes for a layer in the eyes of models that look at its weight, stride, ..."""

    def __init__(self, layer: Module):
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class ScoredLayer(_StandIn):
    """
    Gives the output of a layer and leaves the scores of its runs in a slot. Where the layer is
    one of several branches, it stands in for the one that runs first.
    """

    def __init__(
        self,
        layer: Module,
        read: Module,
        detectors: Mapping[str, FirstLayerDetector],
        runs: Runs,
    ):
        """
        :param read: layer to score, the same one, the branches or the stem that it belongs to
        :param runs: how its rows belong to samples
        """
        super().__init__(layer)
        self.is_stem = isinstance(read, Stem)
        self.branches = None if read is layer or self.is_stem else read
        self.scorers = Scorers(detectors)
        self.runs = runs
        self.slot: Slot[dict[str, Tensor]] = Slot()
        #: number of samples in the batch that passes, and the runs so far
        self.samples: Slot[int] = Slot()
        self.parts: Slot[list[LayerCall]] = Slot()

    def begin(self, samples: int | None) -> None:
        """A batch of so many samples is about to pass; ``None``: the first run is on all."""
        self.slot.put(None)
        self.samples.put(samples)
        self.parts.put([])

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.layer(x)
        if self.slot.peek() is None:
            call = self._whole(self._call(x, maps))
            if call is not None:
                self.slot.put(self._scores(call))
        return maps

    def _whole(self, call: LayerCall) -> LayerCall | None:
        """All runs together; ``None`` as long as rows are missing."""
        samples = self.samples.peek()
        if samples is None:
            return call
        parts = self.parts.peek()
        assert parts is not None, "begin() comes first"
        parts.append(call)
        rows = None if self.runs.per_sample == 1 else self.runs.rows(samples)
        numbers = range(len(parts)) if self.runs.calls is None else self.runs.calls
        taken = [parts[i] for i in numbers if i < len(parts)]
        if sum(part.input.shape[0] for part in taken) != samples * self.runs.per_sample:
            parts[-1] = _copied(call)
            return None
        if len(taken) == 1:
            return replace(call, rows=rows)
        outputs = [part.output for part in taken if part.output is not None]
        inputs = torch.cat([part.input for part in taken])
        return replace(
            call, input=inputs, output=torch.cat(outputs) if outputs else None, rows=rows
        )

    def _scores(self, call: LayerCall) -> dict[str, Tensor]:
        of_rows = self.scorers.of_maps(call.maps()) if self.is_stem else self.scorers.of_call(call)
        return {name: call.largest(scores) for name, scores in of_rows.items()}

    def _call(self, x: Tensor, maps: Tensor) -> LayerCall:
        if self.branches is not None:
            return LayerCall(self.branches, x)
        # the user's hooks may have changed the output; scores are of the raw one
        raw = self.layer.forward(x) if self.layer._forward_hooks else maps
        return LayerCall(self.layer, x, raw)


class WatchedLayer(_StandIn):
    """Gives the output of a layer and leaves the input of its last run in a slot."""

    def __init__(self, layer: Module):
        super().__init__(layer)
        self.slot: Slot[Tensor] = Slot()

    def forward(self, x: Tensor) -> Tensor:
        # a copy: what comes after the layer may work in place
        self.slot.put(x.clone())
        output: Tensor = self.layer(x)
        return output


class PurifiedLayer(_StandIn):
    """
    Leaves what purified maps of a layer's first run are in one slot, and gives what it finds in
    another slot in place of the layer's output.
    """

    def __init__(self, layer: Module, purify: Callable[[LayerCall], Tensor]):
        """:param purify: gives maps that could take the place of the layer's output"""
        super().__init__(layer)
        self.purify = purify
        self.purified: Slot[Tensor] = Slot()
        self.instead: Slot[Tensor] = Slot()

    def forward(self, x: Tensor) -> Tensor:
        given = self.instead.take()
        if given is not None:
            return given
        maps: Tensor = self.layer(x)
        if self.purified.peek() is None:
            self.purified.put(self.purify(LayerCall(self.layer, x, maps)))
        return maps


def _copied(call: LayerCall) -> LayerCall:
    output = None if call.output is None else call.output.clone()
    return replace(call, input=call.input.clone(), output=output)


def put_in_place(model: Module, layer: Module, stand_in: Module) -> None:
    """From now on, ``stand_in`` is run wherever the model had ``layer``."""
    for module in [*model.modules()]:
        for name, child in module._modules.items():
            if child is layer and module is not stand_in:
                module._modules[name] = stand_in
