"""
The moment that a layer runs.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn import Module

__all__ = ["LayerCall"]


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
