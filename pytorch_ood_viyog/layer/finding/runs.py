"""
How the rows of a layer's calls belong to the samples of a batch.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Rows", "Runs", "runs_unclear"]


@dataclass(frozen=True)
class Runs:
    """
    What was found out of how often a layer runs: on parts of the batch in order, or on several
    rows of each sample (frames, crops, views).
    """

    #: rows of each sample, over all calls
    per_sample: int = 1
    #: whether rows of a sample follow each other; else they come batch after batch. ``None`` as
    #: long as that is not known, which it need not be while there is one sample
    adjacent: bool | None = None
    #: numbers of the calls that read the image; ``None`` for all of them
    calls: tuple[int, ...] | None = None
    #: whether it was seen that parts of a batch come in order
    in_order: bool = False

    def rows(self, samples: int) -> "Rows":
        """:return: the mapping of the rows of so many samples"""
        return Rows(samples, self.per_sample, bool(self.adjacent))


@dataclass(frozen=True)
class Rows:
    """Rows of a batch's samples, all calls of a layer one after the other."""

    samples: int
    per_sample: int
    adjacent: bool
    #: which rows one call has, of all of them
    part: slice = field(default_factory=lambda: slice(None))

    def grouped(self, values: Tensor) -> Tensor:
        """
        :param values: one entry a row, :math:`B m \\times ...`
        :return: the entries of each sample, :math:`B \\times m \\times ...`
        """
        if self.adjacent:
            return values.reshape(self.samples, self.per_sample, *values.shape[1:])
        grouped = values.reshape(self.per_sample, self.samples, *values.shape[1:])
        return grouped.transpose(0, 1)

    def spread(self, values: Tensor) -> Tensor:
        """
        :param values: one entry a sample, :math:`B \\times ...`
        :return: the entry of its sample for each row of the call
        """
        index = torch.arange(self.samples * self.per_sample, device=values.device)
        index = index // self.per_sample if self.adjacent else index % self.samples
        return values[index[self.part]]


def runs_unclear(name: str, rows: int, samples: int, calls: int) -> str:
    """:return: the message for a layer whose rows belong to no sample"""
    times = "once" if calls == 1 else f"{calls} times"
    return (
        f"Layer {name!r} must run on each sample of a batch, on one row or on as many for each, "
        f"in order, but it ran on {rows} of {samples} samples, {times}. Name another layer by "
        f"layer='...', or give the part of the model that takes single images."
    )
