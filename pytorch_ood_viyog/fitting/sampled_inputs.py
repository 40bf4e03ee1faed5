"""
A loader's batches, and a sample of its ID inputs kept on the way, or held back.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..layer.batches import id_mask, split_batch
from ..layer.checks import check_finite, check_input
from . import content_sample

__all__ = ["SampledInputs"]

# memory that the sample may take
_SAMPLE_BYTES = 2**27
_FEWEST_SAMPLES, _FEWEST_HELD_OUT = 64, 2


class SampledInputs:
    """
    Yields what a loader yields, and keeps a sample of its ID inputs. A sample's values decide, so
    that neither order, batches nor a second pass change the choice.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        size: int,
        seed: int,
        *,
        held_out: float | None = None,
        name: str = "data_loader",
    ):
        """
        :param loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``
        :param size: number of inputs to keep; fewer, but at least 64, where they would take more
            than 128 MiB
        :param seed: seed of the choice
        :param held_out: share of the ID inputs that the sample is drawn from, and that is not
            yielded, in (0, 1); default: all, and all are yielded
        :param name: of the loader, for messages
        :raises TypeError: if the loader is a tensor
        """
        if isinstance(loader, Tensor):
            raise TypeError(f"{name} must yield batches, got a tensor. Use a DataLoader.")
        self.loader = loader
        self.size = size
        self.seed = seed
        self.held_out = held_out
        self.name = name
        self._kept: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        self._kept = None
        for batch in self.loader:
            x, y = split_batch(batch)
            known = id_mask(y, check_input(x))
            if self.held_out is None:
                self._keep(x if known is None else x[known])
                yield batch
                continue
            out = content_sample.priorities(x, self.seed).double() < self.held_out * 2.0**63
            out = out if known is None else out & known.cpu()
            self._keep(x[out.to(x.device)])
            yield x[~out.to(x.device)], None if y is None else torch.as_tensor(y).cpu()[~out]

    def inputs(self) -> Tensor:
        """
        :return: the sample of the last pass, in an order of its own
        :raises ValueError: if there were no ID inputs, or too few to hold out
        """
        kept = None if self._kept is None else self._kept[1]
        if self.held_out is not None and (kept is None or len(kept) < _FEWEST_HELD_OUT):
            raise ValueError(
                f"Too few ID samples: held_out={self.held_out:g} of them leaves fewer than "
                f"{_FEWEST_HELD_OUT} to compare the detectors on. Pass a calibration_loader."
            )
        if kept is None:
            raise ValueError(
                f"{self.name} holds no ID samples: it is empty, or all labels are < 0."
            )
        return kept

    def _keep(self, x: Tensor) -> None:
        x = x.detach()
        if len(x) == 0:
            return
        check_finite("Input", x)
        fitting = _SAMPLE_BYTES // (x.element_size() * x.shape[1:].numel())
        size = min(self.size, max(_FEWEST_SAMPLES, fitting))
        drawn = content_sample.draw(content_sample.priorities(x, self.seed), x, size)
        if self._kept is None:
            self._kept = drawn
            return
        if drawn[1].shape[1:] != self._kept[1].shape[1:]:
            raise ValueError(
                f"All inputs of a fit must have one size, got {tuple(self._kept[1].shape[1:])} "
                f"and {tuple(drawn[1].shape[1:])}. Resize or crop the inputs to one size."
            )
        self._kept = content_sample.merge(self._kept, drawn, size)
