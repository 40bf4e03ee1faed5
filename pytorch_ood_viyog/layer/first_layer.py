"""
Find the first convolution that executes, run the model only that far, and read it there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy

from .finding import convolutions, find_layer, first_to_run, known_convolutions, layer_named
from .finding.branches import runs_first
from .layer_call import LayerCall
from .layer_reader import LayerReader
from .manners import as_found, modules_of, unwrap

__all__ = ["FirstLayer"]

T = TypeVar("T")


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
        reader = LayerReader(self._found, self._candidates(model), read, stop=True)
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
        reader = LayerReader(self._found, self._candidates(model), read, stop=False)
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
        reader = LayerReader(
            self._found, self._candidates(model), change, stop=False, replace=True
        )
        with reader:
            yield
        self._outcome(model, reader)

    def _found(self, name: str) -> Module:
        self.name = name
        return self.layer()

    def _outcome(self, model: Module, reader: LayerReader) -> Any:
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


def _is_lazy(module: Module) -> bool:
    return any(p is not None and is_lazy(p) for p in module._parameters.values())
