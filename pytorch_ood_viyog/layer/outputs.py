"""
Read the outputs of many layers in one forward pass, each as soon as it is there.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn import Module

from .hooks import PassHooks
from .manners import as_found, unwrap

__all__ = ["LayerOutputs", "evenly_spread"]

T = TypeVar("T")


class LayerOutputs:
    """
    Runs a model once and hands the output of each chosen layer to a reader inside the forward
    pass, which keeps what it needs before operations in place reach it.
    """

    def __init__(self, model: Module, layers: Sequence[str]):
        """
        :param model: model to read, also wrapped in ``DataParallel``, ``DistributedDataParallel``
            or ``torch.compile``
        :param layers: dotted names of the layers
        :raises ValueError: if a named layer is not part of the model, or there is none at all
        """
        self.model = model
        modules = dict(unwrap(model).named_modules())
        unknown = [name for name in layers if name not in modules]
        if unknown or not layers:
            raise ValueError(
                f"layers must name at least one module of {type(unwrap(model)).__name__}, got "
                f"{list(layers)}, unknown among them: {unknown}. Its modules are "
                f"{[name for name in modules if name][:40]}."
            )
        #: dotted names, in the order given
        self.layers = list(layers)

    def run(self, x: Tensor, read: Callable[[str, Tensor], T]) -> dict[str, T]:
        """
        Run the model on ``x`` in evaluation mode and without gradients.

        :param x: batch of model inputs
        :param read: called with the name and the output of a layer, the first time that it runs,
            and again as long as its outputs have fewer rows than ``x``
        :return: what ``read`` returned, by layer, in the order of execution; tensors of parts of
            the batch are joined; layers that did not run, or whose output is not a tensor, are
            missing
        """
        model = unwrap(self.model)
        parts: dict[str, list[T]] = {}
        rows: dict[str, int] = {}

        def reader(name: str) -> Callable[..., None]:
            def keep(layer: Module, args: Any, kwargs: Any, output: Any) -> None:
                unread = name not in parts or rows[name] < len(x)
                if isinstance(output, Tensor) and unread:
                    parts.setdefault(name, []).append(read(name, output))
                    rows[name] = rows.get(name, 0) + (len(output) if output.dim() else len(x))

            return keep

        with as_found(model), PassHooks() as hooks:
            for name in self.layers:
                hooks.after(model.get_submodule(name), reader(name))
            model(x)
        return {name: _joined(found, rows[name] == len(x)) for name, found in parts.items()}


def _joined(found: list[T], whole: bool) -> T:
    """Of all parts of a batch, if they are these; else of the first run."""
    tensors: list[Tensor] = [value for value in found if isinstance(value, Tensor) and value.dim()]
    if not whole or len(found) == 1 or len(tensors) < len(found):
        return found[0]
    return cast(T, torch.cat(tensors))


def evenly_spread(names: Sequence[str], at_most: int) -> list[str]:
    """:return: at most so many of the names, in order, evenly spread, first and last among them"""
    if len(names) <= at_most:
        return list(names)
    if at_most == 1:
        return [names[-1]]
    step = (len(names) - 1) / (at_most - 1)
    return [names[round(i * step)] for i in range(at_most)]
