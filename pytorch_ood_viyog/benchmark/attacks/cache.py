"""Disk cache of crafted attacks: one file a batch, under a key of its inputs."""

import hashlib
import os
import pickle
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["DAMAGED", "AttackedBatch", "BatchCache", "digest"]

AttackedBatch = tuple[Tensor, Tensor, Tensor]
"""Rounded images uint8 (B, ...), clean prediction correct (B,), attack successful (B,)."""

#: what reading a damaged file may raise
DAMAGED = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    EOFError,
    OSError,
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


class BatchCache:
    """
    Files of finished batches in one folder.

    :param folder: created if it does not exist
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:05d}.pt"

    def read(self, number: int, shape: torch.Size) -> AttackedBatch | None:
        """
        :param number: position of the batch
        :param shape: shape of its images
        :return: the batch; None if there is no file or, after a warning, if it is damaged
        """
        file = self._file(number)
        if not file.exists():
            return None
        try:
            attacked, correct, success = torch.load(file, weights_only=True)
            if attacked.shape != shape or len(correct) != shape[0] or len(success) != shape[0]:
                raise ValueError(f"expected shape {tuple(shape)}, got {tuple(attacked.shape)}")
        except DAMAGED as error:
            warnings.warn(f"{file} is damaged and computed again: {error}", stacklevel=3)
            return None
        return attacked, correct, success

    def write(self, number: int, batch: AttackedBatch) -> None:
        """
        Store a batch. A file under its final name is always complete.

        :param number: position of the batch
        :param batch: tensors on the CPU
        """
        file = self._file(number)
        partial = file.with_suffix(f".partial-{os.getpid()}")
        torch.save(batch, partial)
        os.replace(partial, file)
