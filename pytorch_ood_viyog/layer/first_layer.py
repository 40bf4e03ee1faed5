"""
Find the first convolution that executes, run the model only that far, and read it there.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy

from .branches import names_in, runs_first
from .convolution import CONVOLUTIONS
from .finding import convolutions, find_layer, known_convolutions, layer_named
from .first_to_run import LayerReached, first_to_run
from .hooks import PassHooks
from .manners import as_found, modules_of, unwrap

__all__ = ["FirstLayer", "LayerCall"]

T = TypeVar("T")


@dataclass(frozen=True)
class LayerCall:
    """
    The moment that a layer runs: the layer, the tensor that it takes and, where it has run
    already, its output. Valid inside the reader only, before the model goes on.
    """

    #: the layer, usually a convolution
    layer: Module
    #: its input, shape :math:`B \\times C_{in} \\times *S_{in}`
    input: Tensor
    #: its raw output; ``None`` if the layer has not run yet
    output: Tensor | None = None
    #: what a detector read of it for others to read too, by what tells that they would read the
    #: same
    readings: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def maps(self) -> Tensor:
        """
        :return: raw feature maps of shape :math:`B \\times C \\times *S`, before batch norm,
            activation and the user's hooks; computed now if the layer has not run yet
        """
        maps: Tensor = self.layer.forward(self.input) if self.output is None else self.output
        return maps


class FirstLayer:
    """
    The layer of a model that the detectors read: by default the first convolution to *execute*,
    which need not be the first that is registered, or a layer that the user names. Further
    convolutions that take the same tensor, as in stems of several branches, belong to it.

    The model runs up to that layer only. A hook that lives for one call, and acts for the calling
    thread alone, hands the layer's input to the reader and ends the forward pass.
    """

    def __init__(self, model: Module, layer: str | Module | None = None):
        """
        :param model: model to read, also wrapped in ``DataParallel``, ``DistributedDataParallel``
            or ``torch.compile``
        :param layer: dotted name of the layer, or the module itself. Default is the first
            convolution that executes.
        :raises RuntimeError: if no layer is named and the model has no convolution
        :raises ValueError: if the named layer is not part of the model
        """
        self.model = model
        #: dotted name of the layer; ``None`` until a forward pass has found it
        self.name: str | None = None
        if layer is not None:
            self.name = find_layer(unwrap(model), layer)
        elif not convolutions(unwrap(model)):
            raise RuntimeError(
                f"No convolution found: {type(unwrap(model)).__name__} has no Conv1d, Conv2d or "
                f"Conv3d module. Name the layer to read by layer='...'."
            )

    def run(self, x: Tensor, read: Callable[[LayerCall], T]) -> T:
        """
        Run the model on ``x`` up to the layer and read it there.

        :param x: batch of model inputs
        :param read: called once, with the layer and its input, inside the forward pass (so that
            autocast and the like apply as they do for the layer)
        :return: what ``read`` returns
        :raises RuntimeError: if the layer does not run, or the model has lazy parameters that
            were never initialised
        """
        model = unwrap(self.model)
        self.find(x)
        reader = _LayerReader(self, self._candidates(model), read, stop=True)
        with as_found(model), reader:
            model(x)
        result: T = self._outcome(model, reader)
        return result

    def layer(self) -> Module:
        """
        :return: the layer that is read
        :raises RuntimeError: if no layer was named and no forward pass has found one yet
        """
        if self.name is None:
            raise RuntimeError("The first convolution is not known before a forward pass.")
        return layer_named(unwrap(self.model), self.name)

    def find(self, x: Tensor) -> None:
        """
        Find out which layer is the first, unless it is known: one sample runs to the first
        convolution, and beyond it as long as others may come that take the same tensor.

        :param x: batch of model inputs
        """
        if self.name is None:
            model = unwrap(self.model)
            self._candidates(model)
            self.name = first_to_run(model, x[:1])

    @contextmanager
    def reading(self, read: Callable[[LayerCall], Any]) -> Iterator[None]:
        """
        Read the layer in a forward pass that the caller runs inside the block and that goes on
        to its end, so that others can read further layers in it.

        :param read: called once, with the layer, its input and its output, right after the layer
            ran; if it raises, the forward pass ends there and the block raises that error
        :raises RuntimeError: if the layer does not run, or the model has lazy parameters that
            were never initialised
        """
        model = unwrap(self.model)
        reader = _LayerReader(self, self._candidates(model), read, stop=False)
        with reader:
            yield
        self._outcome(model, reader)

    @contextmanager
    def replacing(self, change: Callable[[LayerCall], Tensor]) -> Iterator[None]:
        """
        Give the model another output of the layer in a forward pass that the caller runs inside
        the block; the model goes on from there. Only the layer's first run is changed.

        :param change: called once, right after the layer ran; gives the output that takes its
            place. If it raises, the forward pass ends there and the block raises that error.
        :raises RuntimeError: if the layer does not run, or the model has lazy parameters that
            were never initialised
        """
        model = unwrap(self.model)
        reader = _LayerReader(self, self._candidates(model), change, stop=False, replace=True)
        with reader:
            yield
        self._outcome(model, reader)

    def _outcome(self, model: Module, reader: "_LayerReader") -> Any:
        if not reader.outcome:
            raise RuntimeError(self._never_ran(model))
        value, error = reader.outcome[0]
        if error is not None:
            raise error
        return value

    def _candidates(self, model: Module) -> dict[str, Module]:
        if any(_is_lazy(module) for module in modules_of(model)):
            raise RuntimeError(
                f"{type(model).__name__} has lazy parameters that are not initialised yet. Run "
                f"the model once on a batch first."
            )
        if self.name is None:
            return dict(convolutions(model))
        return {self.name: model.get_submodule(runs_first(self.name))}

    def _never_ran(self, model: Module) -> str:
        looked_for = f"Layer {self.name!r}" if self.name else "A convolution"
        return (
            f"{looked_for} never runs in the forward pass of {type(model).__name__}. "
            f"{known_convolutions(model)}"
        )


class _LayerReader:
    """Hooks on all candidates, for one forward pass of one thread; the first to run is read."""

    def __init__(
        self,
        owner: FirstLayer,
        candidates: dict[str, Module],
        read: Callable[[LayerCall], Any],
        stop: bool,
        replace: bool = False,
    ):
        #: told the name of the layer before it is read
        self.owner = owner
        self.candidates = candidates
        self.read = read
        #: whether the forward pass ends at the layer, before the layer itself runs
        self.stop = stop
        #: whether what is read takes the place of the layer's output
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
            self.owner.name = name
            try:
                call = _call(name, layer, args, kwargs, output)
                if len(names_in(name)) > 1:
                    call = LayerCall(self.owner.layer(), call.input)
                with torch.no_grad():  # the model may have switched gradients on
                    self.outcome.append((self.read(call), None))
            except Exception as error:  # kept: the model's own handlers must not swallow it
                self.outcome.append((None, error))
                raise LayerReached from None
            if self.stop:
                raise LayerReached
            return self.outcome[0][0] if self.replace else None

        return hook


def _is_lazy(module: Module) -> bool:
    return any(p is not None and is_lazy(p) for p in module._parameters.values())


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
