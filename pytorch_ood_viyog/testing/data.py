"""
Loaders and a benchmark that the checks make from the subclass's loader.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import torch
from pytorch_ood.api import Detector
from pytorch_ood.benchmark import Benchmark
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

__all__ = ["Batches", "Brightness", "LoaderError", "ToyBenchmark", "all_samples", "pairwise_auroc"]

Batch = tuple[Tensor, Tensor]


class LoaderError(Exception):
    """What a failing loader raises."""


class Batches:
    """A loader over a list of batches, which may fail after the last one."""

    def __init__(self, batches: Iterable[Batch], *, fault: Exception | None = None):
        """
        :param batches: inputs and labels
        :param fault: what to raise after the last batch
        """
        self.batches = list(batches)
        self.fault = fault

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches
        if self.fault is not None:
            raise self.fault

    def __len__(self) -> int:
        return len(self.batches)

    def map(
        self,
        inputs: Callable[[Tensor], Tensor] = lambda x: x,
        labels: Callable[[Tensor], Tensor] = lambda y: y,
    ) -> "Batches":
        """
        :param inputs: applied to the inputs of each batch
        :param labels: applied to its labels
        :return: a loader over the results
        """
        return Batches([(inputs(x), labels(y)) for x, y in self.batches])


def all_samples(loader: Iterable[Any]) -> Batch:
    """
    :param loader: yields ``(x, y)``
    :return: all inputs and all labels
    """
    inputs, labels = zip(*((batch[0], batch[1]) for batch in loader), strict=True)
    return torch.cat(inputs), torch.cat(labels)


def pairwise_auroc(known: Tensor, unknown: Tensor) -> float:
    """
    :param known: scores of ID samples
    :param unknown: scores of OOD samples
    :return: share of pairs in which the OOD sample scores higher, ties half
    """
    one, other = known.double().flatten()[:, None], unknown.double().flatten()[None, :]
    return float(((other > one).double() + 0.5 * (other == one).double()).mean())


class ToyBenchmark(Benchmark):  # type: ignore[misc]
    """A benchmark of one OOD set, from tensors."""

    ood_names: ClassVar[list[str]] = ["anomalies"]

    def __init__(self, known: Batch, unknown: Batch):
        """
        :param known: ID inputs and labels
        :param unknown: OOD inputs and labels, all below 0
        """
        self.known = TensorDataset(*known)
        self.unknown = TensorDataset(*unknown)

    def train_set(self) -> Dataset[tuple[Tensor, ...]]:
        """:return: the ID samples"""
        return self.known

    def test_sets(
        self, known: bool = True, unknown: bool = True
    ) -> list[Dataset[tuple[Tensor, ...]]]:
        """See :meth:`pytorch_ood.benchmark.Benchmark.test_sets`."""
        if not known and not unknown:
            raise ValueError("known and unknown must not both be False.")
        if not unknown:
            return [self.known]
        return [self.known + self.unknown if known else self.unknown]


class Brightness(Detector):  # type: ignore[misc]
    """The simplest detector: the mean of the input. Company for another one in a list."""

    def __init__(self, like: Tensor):
        """
        :param like: scores whose shape, without the first dimension, this detector's take
        """
        self.shape = like.shape[1:]

    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs
        :return: mean of each input, as one score or one score per pixel
        """
        means = x.float().flatten(1).mean(dim=1)
        return means.view(-1, *[1] * len(self.shape)).expand(-1, *self.shape)
