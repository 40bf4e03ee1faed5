"""
Where in a sample the residue is, by a detector that knows.
"""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

__all__ = ["MapsResidue", "residue_at"]


@runtime_checkable
class MapsResidue(Protocol):
    """A detector that tells where the residue is."""

    #: the model that it reads, ``None`` where a pipeline gives it
    model: Any

    def residue_map(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: residue at each place as a fraction of the input's range,
            :math:`B \\times H' \\times W'`
        """


def residue_at(detectors: Iterable[Any], x: Tensor) -> Tensor | None:
    """
    :param detectors: fitted detectors
    :param x: one model input, without the dimension of a batch
    :return: the residue that the first of them that knows sees at each place, shape
        :math:`H' \\times W'`; ``None`` where none does, or the input has no two axes of space
    """
    for detector in detectors:
        if isinstance(detector, MapsResidue) and detector.model is not None:
            found = detector.residue_map(x[None])[0]
            return found.cpu() if found.dim() == 2 else None
    return None
