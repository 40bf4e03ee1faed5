"""
A part of the data, chosen before anything is read: a fit that needs some thousand images must not
decode a million files.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from ..layer.checks import check_count

__all__ = ["some_images"]

# samples at once of a dataset that comes without a loader
_BATCH = 64
# what a loader of the chosen takes from the user's
_KEPT = (
    *("batch_size", "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn"),
    "multiprocessing_context",
)


def some_images(
    data: Iterable[Any] | Dataset[Any], max_images: int | None, seed: int
) -> Iterable[Any]:
    """
    The choice depends on places in the dataset and on the seed: on neither batches, shuffling,
    workers, nor on how a sampler deals the data out to processes.

    :param data: a ``DataLoader`` over a dataset with length and index, or such a dataset
    :param max_images: most images that are read; ``None``: all of ``data``, whatever it is
    :param seed: seed of the choice
    :return: loader of the chosen images, in the order of the dataset; ``data`` itself where
        nothing is left out
    :raises TypeError: if images cannot be chosen by their places
    :raises ValueError: if ``max_images`` is no positive number
    """
    if max_images is None:
        return data  # type: ignore[return-value]
    most = check_count("max_images", max_images, low=1)
    loader = data if isinstance(data, DataLoader) else None
    dataset: Any = data if loader is None else loader.dataset
    by_place = isinstance(dataset, Dataset) and not isinstance(dataset, IterableDataset)
    own_batches = loader is not None and loader.batch_size is None
    if not by_place or not hasattr(dataset, "__len__") or own_batches:
        raise TypeError(
            f"max_images needs a DataLoader with a batch_size over a dataset with __len__ and "
            f"__getitem__, or such a dataset, got {type(data).__name__}. Leave it out, or choose "
            f"the images beforehand."
        )
    size = len(dataset)
    rank = torch.empty(size, dtype=torch.int64)
    rank[torch.randperm(size, generator=torch.Generator().manual_seed(seed))] = torch.arange(size)
    places = torch.arange(size) if loader is None else _places(loader)
    if loader is not None and len(places) <= most:
        return loader
    chosen = places[rank[places].argsort()[:most]].sort().values
    kept = {} if loader is None else {name: getattr(loader, name) for name in _KEPT}
    return DataLoader(Subset(dataset, chosen.tolist()), **{"batch_size": _BATCH} | kept)


def _places(loader: DataLoader[Any]) -> Tensor:
    """Those that the sampler would give, without what is random in it."""
    if isinstance(loader.sampler, (RandomSampler, SequentialSampler)):
        return torch.arange(len(loader.dataset))  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        return torch.tensor(sorted(set(loader.sampler)))
