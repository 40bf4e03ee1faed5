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
                return self.maps_of(seen[0], x)
        raise RuntimeError(f"Layer {last_of(self.name)!r} did not run.")
