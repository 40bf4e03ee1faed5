"""
The moment that a layer runs.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn import Module

from .finding import Path, Rows

__all__ = ["LayerCall"]


@dataclass(frozen=True)
class LayerCall:
    """
    The moment that a layer runs: the layer, the tensor that it takes and, where it has run
    already, its output. Valid inside the reader only, before the model goes on. A layer that runs
    on parts of a batch, or several times, is read once, with the rows of all its runs.
    """

    #: the layer, usually a convolution
    layer: Module
    #: its input, shape :math:`B \\times C_{in} \\times *S_{in}`
    input: Tensor
    #: its raw output; ``None`` if the layer has not run yet
    output: Tensor | None = None
    #: which sample each row belongs to; ``None``: each is a sample
    rows: Rows | None = None
    #: what lies between the model's input and the layer's, where that was looked at
    path: Path | None = None
    #: gives the maps of a layer that has not run, if not the layer itself does
    compute: Callable[[], Tensor] | None = field(default=None, compare=False, repr=False)
    #: what a detector read of it for others to read too, by what tells that they would read the
    #: same
    readings: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def maps(self) -> Tensor:
        """
        :return: raw feature maps of shape :math:`B \\times C \\times *S`, before batch norm,
            activation and the user's hooks; computed now if the layer has not run yet
        """
        if self.output is not None:
            return self.output
        maps: Tensor = self.layer.forward(self.input) if self.compute is None else self.compute()
        return maps

    def largest(self, values: Tensor) -> Tensor:
        """
        :return: of one number a row, the largest of each sample, shape :math:`B`: evidence in one
            frame or view is evidence
        """
        return values if self.rows is None else self.rows.grouped(values).amax(dim=1)

    def of_largest(self, values: Tensor, evidence: Callable[[], Tensor]) -> Tensor:
        """
        :param values: several numbers a row, :math:`R \\times K`
        :param evidence: gives one number a row, where samples have several
        :return: those of the row with the largest evidence of each sample, :math:`B \\times K`
        """
        if self.rows is None:
            return values
        chosen = self.rows.grouped(evidence()).argmax(dim=1)
        grouped = self.rows.grouped(values)
        return grouped.gather(1, chosen.view(-1, 1, 1).expand(-1, 1, grouped.shape[2]))[:, 0]

    def grouped(self, values: Tensor) -> Tensor:
        """
        :return: of one entry a row, one a sample; where samples have several rows, with an axis
            for these after the first
        """
        if self.rows is None or self.rows.per_sample == 1:
            return values
        return self.rows.grouped(values)
