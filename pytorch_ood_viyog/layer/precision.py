"""
In what type of numbers things are computed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = [
    "accumulator_dtype",
    "autocast_enabled",
    "full_precision",
    "precise",
    "without_autocast",
]


def full_precision(maps: Tensor) -> Tensor:
    """:return: a tensor of any float type, as float32 if it has fewer bits than that"""
    return maps.float() if torch.finfo(maps.dtype).bits < 32 else maps


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """:return: float64 for sums, or float32 where a device has none (MPS)"""
    return torch.float32 if device.type == "mps" else torch.float64


def precise(values: Tensor) -> Tensor:
    """
    :return: the operand of a convolution in a type that it is computed with at 24 bits or more:
        float64 on CUDA, where cuDNN rounds float32 to 11 bits (TF32) unless told otherwise
    """
    return values.double() if values.device.type == "cuda" else full_precision(values)


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Compute at the precision of the operands, on this device, inside the block."""
    if not autocast_enabled(device):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield


def autocast_enabled(device: torch.device) -> bool:
    """:return: whether operations on this device run under autocast"""
    kind = device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
