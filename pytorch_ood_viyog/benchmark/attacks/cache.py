"""
What is kept on disk: a file each for the batches of some work, in a folder under a key of its
inputs, so that a run that was killed goes on where it stopped.
"""

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...layer.manners import warn_user

__all__ = ["digest", "keep", "read_kept"]

T = TypeVar("T")

# what reading a damaged file may raise
_DAMAGED = (
    *(RuntimeError, ValueError, TypeError, AttributeError, KeyError, EOFError, OSError),
    pickle.UnpicklingError,
)


def digest(model: nn.Module, x: Tensor, y: Tensor, settings: str) -> str:
    """:return: of a model's weights, images, labels and settings as text, 16 hexadecimal digits"""
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
        warn_user(f"{file} is damaged and computed again: {error}")
        return None


def keep(file: Path | None, value: Any) -> None:
    """Tensors on the CPU, numbers and text; a file under its final name is always complete."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".partial-{os.getpid()}")
    torch.save(value, partial)
    os.replace(partial, file)
