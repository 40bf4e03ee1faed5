"""
Keep a share of a loader's samples back in every pass, the same ones, chosen by content.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..layer.batches import id_mask, split_batch
from ..layer.checks import check_input
from . import content_sample

__all__ = ["HeldByContent"]

_FEWEST_HELD_OUT = 2


class HeldByContent:
    """
    Yields a loader's batches without the samples held out, which are kept in memory. A sample's
    values decide, so that neither order, batches nor a second pass change the choice.
    """

    def __init__(self, loader: Iterable[Any], share: float, most: int, seed: int):
        """
        :param loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``
        :param share: share of the ID samples to hold out, in (0, 1)
        :param most: keep at most this many of them
        :param seed: another seed makes another choice
        """
        self.loader = loader
        self.share = share
        self.most = most
        self.seed = seed
        #: whether somebody went over the batches: what is held out is known after that
        self.was_read = False
        self._held: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.loader, Tensor):
            raise TypeError("data_loader must yield batches, got a tensor. Use a DataLoader.")
        self._held = None
        self.was_read = True
        for batch in self.loader:
            x, y = split_batch(batch)
            known = id_mask(y, check_input(x))
            priority = content_sample.priorities(x, self.seed)
            out = priority.double() < self.share * 2.0**63
            keep = out if known is None else out & known.cpu()
            self._hold(priority[keep], x[keep.to(x.device)])
            rest = ~keep
            yield x[rest.to(x.device)], None if y is None else torch.as_tensor(y).cpu()[rest]

    def held(self) -> Tensor:
        """
        :return: the ID samples held out of the last pass
        :raises ValueError: if there are too few
        """
        if self._held is None or len(self._held[1]) < _FEWEST_HELD_OUT:
            raise ValueError(
                f"Too few ID samples: held_out={self.share:g} of them leaves fewer than "
                f"{_FEWEST_HELD_OUT} to compare the detectors on. Pass a calibration_loader."
            )
        return self._held[1]

    def _hold(self, priority: Tensor, x: Tensor) -> None:
        if len(x) == 0:
            return
        drawn = content_sample.draw(priority, x.detach(), self.most)
        if self._held is not None:
            drawn = content_sample.merge(self._held, drawn, self.most)
        self._held = drawn
