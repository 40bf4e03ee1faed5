"""
What is kept on disk: a file each for the batches of some work, in a folder under a key of its
inputs, so that a run that was killed goes on where it stopped.
"""

import hashlib
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["digest", "keep", "read_kept"]

T = TypeVar("T")

# what reading a damaged file may raise
_DAMAGED = (
    *(RuntimeError, ValueError, TypeError, AttributeError, KeyError, EOFError, OSError),
    pickle.UnpicklingError,
)


def digest(model: nn.Module, x: Tensor, y: Tensor, settings: str) -> str:
    """
    :param model: its ``state_dict`` counts, its code does not
    :param x: images
    :param y: labels
    :param settings: text that stands for the attack and all its settings
    :return: 16 hexadecimal digits that change with any of them
    """
    result = hashlib.sha256(f"{settings}\n".encode())
    for name, value in [*sorted(model.state_dict().items()), ("x", x), ("y", y)]:
        result.update(name.encode())
        if isinstance(value, Tensor):
            result.update(f"{value.dtype}{tuple(value.shape)}".encode())
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            result.update(raw.numpy().tobytes())
        else:  # extra state of a module
            result.update(repr(value).encode())
    return result.hexdigest()[:16]


def read_kept(file: Path | None, read: Callable[[Any], T]) -> T | None:
    """
    :param file: where something may be kept; ``None`` keeps nothing
    :param read: makes of what the file holds what is asked for, or raises
    :return: that; ``None`` if there is no file or, after a warning, if it is damaged
    """
    if file is None or not file.exists():
        return None
    try:
        return read(torch.load(file, weights_only=True))
    except _DAMAGED as error:
        warnings.warn(f"{file} is damaged and computed again: {error}", stacklevel=3)
        return None


def keep(file: Path | None, value: Any) -> None:
    """
    A file under its final name is always complete.

    :param file: where to; folders are made; ``None`` keeps nothing
    :param value: tensors on the CPU, numbers and text, or lists and dictionaries of these
    """
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".partial-{os.getpid()}")
    torch.save(value, partial)
    os.replace(partial, file)
