"""
Everything from the model's input to its first layer, as one layer.
"""

from typing import Any

from torch import Tensor
from torch.nn import Module

from ..hooks import PassHooks
from .reached import LayerReached

__all__ = ["ARROW", "Stem", "is_stem", "last_of"]

#: before the name of the layer that a stem ends with
ARROW = "input > "


def is_stem(name: str) -> bool:
    """:return: whether a name stands for all that lies between the input and a layer"""
    return name.startswith(ARROW)


def last_of(name: str) -> str:
    """:return: of a stem, the name of the layer that it ends with; else the name itself"""
    return name.removeprefix(ARROW)


class Stem(Module):
    """
    A model up to and including one of its layers, where all of that is one linear function of the
    model's input.
    """

    def __init__(self, model: Module, name: str):
        """
        :param model: the unwrapped model
        :param name: name of the stem, :data:`ARROW` and the name of its last layer
        """
        super().__init__()
        self.name = name
        self.model = model
        self.last = model.get_submodule(last_of(name))

    def forward(self, x: Tensor) -> Tensor:
        """
        :param x: model inputs
        :return: raw maps of the last layer; the model runs no further
        """
        seen: list[Tensor] = []

        def stop(layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(layer.forward(*args, **kwargs))
            raise LayerReached

        with PassHooks() as hooks:
            hooks.before(self.last, stop)
            try:
                self.model(x)
            except LayerReached:
                return seen[0]
        raise RuntimeError(f"Layer {last_of(self.name)!r} did not run.")
