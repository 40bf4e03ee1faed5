"""
A loader's batches, and a sample of its ID inputs kept on the way.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from ..layer.batches import id_mask, split_batch
from ..layer.checks import check_finite, check_input
from . import content_sample

__all__ = ["SampledInputs"]

# memory that the sample may take
_SAMPLE_BYTES = 2**27
_FEWEST_SAMPLES = 64


class SampledInputs:
    """
    Yields what a loader yields, and keeps a sample of its ID inputs that depends neither on their
    order nor on the batches.
    """

    def __init__(self, loader: Iterable[Any], size: int, seed: int):
        """
        :param loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``
        :param size: number of inputs to keep; fewer, but at least 64, where they would take more
            than 128 MiB
        :param seed: seed of the choice
        :raises TypeError: if the loader is a tensor
        """
        if isinstance(loader, Tensor):
            raise TypeError("data_loader must yield batches, got a tensor. Use a DataLoader.")
        self.loader = loader
        self.size = size
        self.seed = seed
        self._kept: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        self._kept = None
        for batch in self.loader:
            self._keep(*split_batch(batch))
            yield batch

    def inputs(self) -> Tensor:
        """
        :return: the sample, in an order of its own
        :raises ValueError: if there were no ID inputs
        """
        if self._kept is None:
            raise ValueError(
                "data_loader holds no ID samples: it is empty, or all labels are < 0."
            )
        return self._kept[1]

    def _keep(self, x: Tensor, y: Any) -> None:
        known = id_mask(y, check_input(x))
        x = x.detach() if known is None else x.detach()[known]
        if len(x) == 0:
            return
        check_finite("Input", x)
        size = self._capacity(x)
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

    def _capacity(self, x: Tensor) -> int:
        fitting = _SAMPLE_BYTES // (x.element_size() * x.shape[1:].numel())
        return min(self.size, max(_FEWEST_SAMPLES, fitting))
