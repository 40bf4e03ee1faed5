"""
Layers that are not one module: convolutions of one tensor, and all that lies before a layer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

from ..hooks import LayerReached, PassHooks

__all__ = [
    "ARROW",
    "SEPARATOR",
    "Branches",
    "Stem",
    "is_stem",
    "last_of",
    "names_in",
    "runs_first",
]

#: between the names of branches
SEPARATOR = " + "
#: before the name of the layer that a stem ends with
ARROW = "input > "


def names_in(name: str) -> list[str]:
    """:return: the names of the branches, or the name itself"""
    return name.split(SEPARATOR)


def is_stem(name: str) -> bool:
    """:return: whether a name stands for all that lies between the input and a layer"""
    return name.startswith(ARROW)


def last_of(name: str) -> str:
    """:return: of a stem, the name of the layer that it ends with; else the name itself"""
    return name.removeprefix(ARROW)


def runs_first(name: str) -> str:
    """:return: of branches, the one that runs first; of a stem, its last layer; else the name"""
    return names_in(last_of(name))[0]


class Branches(Module):
    """
    Convolutions that take the same tensor and give maps of one size, as one layer: their raw maps
    stacked along the channels, :math:`B \\times \\sum C \\times *S`.
    """

    def __init__(self, name: str, convolutions: Sequence[Module]):
        """
        :param name: their names, the first to run first, with :data:`SEPARATOR` between them
        :param convolutions: the convolutions in this order
        """
        super().__init__()
        self.name = name
        self.convolutions = ModuleList(convolutions)

    def forward(self, x: Tensor) -> Tensor:
        """:return: the maps of all of them"""
        return torch.cat([conv.forward(x) for conv in self.convolutions], dim=1)


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

    @staticmethod
    def maps_of(output: Tensor, x: Tensor) -> Tensor:
        """
        :param output: what the last layer gives, also tokens of patches, :math:`B \\times N
            \\times C`
        :param x: model inputs
        :return: maps; tokens are laid out on the grid of the image, row by row
        """
        if output.dim() != 3 or x.dim() != 4:
            return output
        count, (height, width) = output.shape[1], x.shape[2:]
        rows = round((count * height / width) ** 0.5)
        if rows == 0 or count % rows:
            return output
        return output.transpose(1, 2).reshape(len(output), -1, rows, count // rows)

    def forward(self, x: Tensor) -> Tensor:
        """:return: raw maps of the last layer; the model runs no further"""
        seen: list[Tensor] = []

        def stop(layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(layer.forward(*args, **kwargs))
            raise LayerReached

        with PassHooks() as hooks:
            hooks.before(self.last, stop)
            try:
                self.model(x)
            except LayerReached:
                return self.maps_of(seen[0], x)
        raise RuntimeError(f"Layer {last_of(self.name)!r} did not run.")
