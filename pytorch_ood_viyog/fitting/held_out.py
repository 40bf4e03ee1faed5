"""
Keep a share of a loader's samples back while something is fitted to the rest.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..layer.batches import id_mask, split_batch

__all__ = ["HeldOut"]


class HeldOut:
    """
    Yields a loader's batches without the samples held out, which are kept in memory. One pass
    only, so that a loader that shuffles cannot mix the two parts.
    """

    def __init__(self, loader: Iterable[Any], share: float, most: int):
        """
        :param loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``
        :param share: share of the ID samples to hold out, in (0, 1)
        :param most: hold out at most this many samples
        """
        self.loader = loader
        self.share = share
        self.most = most
        #: inputs held out, by batch
        self.inputs: list[Tensor] = []
        self._passes = 0

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self._passes:
            raise RuntimeError(
                "The samples are held out in one pass; a second would mix them. "
                "Pass a calibration_loader."
            )
        self._passes += 1
        generator = torch.Generator().manual_seed(0)
        held = 0
        for batch in self.loader:
            x, y = split_batch(batch)
            out = torch.rand(len(x), generator=generator) < self.share
            known = id_mask(y, x)
            out &= torch.ones_like(out) if known is None else known.cpu()
            out &= held + out.cumsum(0) <= self.most
            held += int(out.sum())
            self.inputs.append(x[out.to(x.device)])
            yield x[~out.to(x.device)], None if y is None else torch.as_tensor(y).cpu()[~out]
