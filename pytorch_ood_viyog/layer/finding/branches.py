"""
Convolutions that take the very same tensor, as one layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

from .stem import last_of

__all__ = ["SEPARATOR", "Branches", "names_in", "runs_first"]

#: between the names of branches
SEPARATOR = " + "


class Branches(Module):
    """
    Convolutions that take the same tensor and give maps of one size, as one layer: their raw maps
    stacked along the channels.
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
        """
        :param x: what they take, :math:`B \\times C_{in} \\times *S_{in}`
        :return: their maps, :math:`B \\times \\sum C \\times *S`
        """
        return torch.cat([conv.forward(x) for conv in self.convolutions], dim=1)


def names_in(name: str) -> list[str]:
    """:return: the names of the branches, or the name itself"""
    return name.split(SEPARATOR)


def runs_first(name: str) -> str:
    """:return: of branches, the one that runs first; of a stem, its last layer; else the name"""
    return names_in(last_of(name))[0]
