"""
What loaders yield: batches, and the ID samples among them.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from tqdm import tqdm

from .checks import check_input
from .manners import same_random_state

__all__ = ["at_once", "batches", "first_inputs", "id_mask", "in_batches", "split_batch"]


def split_batch(batch: Any) -> tuple[Tensor, Any]:
    """
    :param batch: what a loader yields: a tensor, ``(x,)``, ``(x, y)`` or ``(x, y, ...)``
    :return: inputs and labels, labels ``None`` where the batch has none
    """
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, (tuple, list)) and batch and isinstance(batch[0], Tensor):
        return batch[0], batch[1] if len(batch) > 1 else None
    inner = f" of {[type(i).__name__ for i in batch]}" if isinstance(batch, (tuple, list)) else ""
    raise TypeError(
        f"A loader must yield tensors, (x, y) or (x, y, ...) with a tensor x, got "
        f"{type(batch).__name__}{inner}. Wrap the loader so that it yields one of these."
    )


def id_mask(y: Any, maps: Tensor, name: str = "y") -> Tensor | None:
    """
    :param y: one label per sample (tensor, array or list), or ``None``
    :param maps: the samples that the labels belong to, first dimension :math:`B`
    :param name: name of the labels in error messages
    :return: boolean mask of the ID samples (label :math:`\\geq 0`) on the device of ``maps``;
        ``None`` if all samples are ID
    """
    if y is None:
        return None
    try:
        labels = torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must hold one number per sample, got {type(y).__name__}. Pass a tensor of "
            f"class labels (OOD < 0), or leave the labels out."
        ) from error
    if labels.shape != maps.shape[:1]:
        hint = " Batches are expected: wrap a dataset in a DataLoader." if not labels.dim() else ""
        raise ValueError(
            f"{name} must hold one label per sample: got labels of shape {tuple(labels.shape)} "
            f"for samples of shape {tuple(maps.shape)}.{hint}"
        )
    if labels.dtype.is_complex:
        raise TypeError(f"{name} must be real numbers, got {labels.dtype}.")
    known = labels >= 0
    if bool(known.all()):
        return None
    if not bool((known | (labels < 0)).all()):
        raise ValueError(f"{name} must not contain NaN. Label OOD samples -1 and ID samples 0.")
    return known.to(maps.device)


def batches(
    loader: Iterable[Any], description: str, progress: bool
) -> Iterator[tuple[Tensor, Any]]:
    """
    :param loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``
    :param description: label of the progress bar
    :param progress: show a progress bar where the pass takes more than a second
    :return: iterator over inputs and labels, labels ``None`` where there are none
    """
    if isinstance(loader, Tensor):
        raise TypeError("data_loader must yield batches, got a tensor. Use a DataLoader.")
    bar = tqdm(loader, desc=description, leave=False, delay=1, disable=None if progress else True)
    for batch in bar:
        x, y = split_batch(batch)
        yield check_input(x), y


# images at once, and positions of these: maps of more do not stay in a processor's cache, where an
# image of 224 pixels takes an EfficientNet-Lite0 0.03 s among five and 0.10 s among 64
_BATCH, _POSITIONS = 64, 2**18


def at_once(inputs: Tensor) -> int:
    """:return: how many inputs a model is asked about at once, where that is ours to choose"""
    if inputs.device.type != "cpu":
        return _BATCH
    return max(1, min(_BATCH, _POSITIONS // max(1, inputs.shape[2:].numel())))


def in_batches(inputs: Tensor | Iterable[Any]) -> Iterable[Any]:
    """:return: ``inputs`` themselves if they are a loader, the batches of a tensor"""
    return torch.split(inputs, at_once(inputs)) if isinstance(inputs, Tensor) else inputs


def first_inputs(loader: Iterable[Any], model: Module) -> Tensor:
    """:return: the inputs of the first batch of a loader that can be read more than once"""
    with same_random_state(model):
        if iter(loader) is loader:
            raise ValueError(
                f"train_loader must be readable more than once, got {type(loader).__name__}. Pass "
                f"a DataLoader or a list of batches."
            )
        for x, _ in batches(loader, "look", False):
            return x
    raise ValueError("train_loader is empty.")
