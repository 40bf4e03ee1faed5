"""
What the detectors accept: batches, labels and feature maps, with errors that say what came.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "check_count",
    "check_finite",
    "check_input",
    "check_layout",
    "check_maps",
    "check_number",
    "check_range",
    "check_strengths",
]


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """:return: a number in [low, high] as a float, with the name of the argument in errors"""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be finite and in [{low:g}, {high:g}], got {value}.")
    return number


def check_input(x: Any) -> Tensor:
    """:return: a batch of model inputs; a tensor with a batch dimension"""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"x must be a tensor of model inputs, got {type(x).__name__}. Convert it by "
            f"torch.as_tensor(x)."
        )
    if x.dim() < 2:
        raise ValueError(
            f"x must be a batch of model inputs, got shape {tuple(x.shape)}. Add the batch "
            f"dimension by x.unsqueeze(0)."
        )
    return x


def check_maps(maps: Any, layout: tuple[int, int] | None = None) -> Tensor:
    """
    :param maps: feature maps of the first layer, :math:`B \\times C \\times *S` with one to three
        spatial dimensions
    :param layout: numbers of channels and of dimensions that the detector was fitted on, if it was
    :return: ``maps``
    """
    if not isinstance(maps, Tensor):
        raise TypeError(f"Feature maps must be a tensor, got {type(maps).__name__}.")
    shape = tuple(maps.shape)
    if not maps.is_floating_point():
        raise TypeError(
            f"Feature maps must be floating point, got {maps.dtype} of shape {shape}. Pass the "
            f"raw output of the first convolution."
        )
    if maps.dim() not in (3, 4, 5):
        raise ValueError(
            f"Feature maps must have the shape (B, C, *S) with one to three spatial dimensions, "
            f"got shape {shape}."
        )
    if maps.shape[1:].numel() == 0:
        raise ValueError(f"Feature maps must have channels and positions, got shape {shape}.")
    check_layout(shape, layout)
    return maps


def check_layout(shape: tuple[int, ...], layout: tuple[int, int] | None) -> None:
    """Refuse a shape of maps with other numbers of channels and dimensions."""
    if layout is not None and (shape[1], len(shape)) != layout:
        channels, axes = layout[0], layout[1] - 2
        raise ValueError(
            f"Feature maps must have {channels} channels and {axes} spatial dimensions, shape "
            f"(B, {channels}, *S), as those that the detector was fitted on, got shape {shape}."
        )


def check_count(name: str, value: Any, low: int) -> int:
    """:return: an integer of at least ``low``"""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{name} must be an integer, got {value!r} of type {type(value).__name__}."
        )
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}.")
    return value


def check_finite(name: str, values: Tensor, *derived: Tensor) -> None:
    """
    Refuse NaN and inf, at the price of one sum and one wait for the device.

    :param name: what ``values`` are, for the message
    :param values: tensor whose first dimension counts samples
    :param derived: tensors computed from ``values``, same first dimension, checked along
    :raises ValueError: naming the samples that are not finite
    """
    if values.shape[0] == 0 or _finite_sum(values, *derived):
        return
    rows = [tensor.reshape(len(tensor), -1) for tensor in (values, *derived)]
    good = torch.stack([row.isfinite().all(dim=1) for row in rows]).all(dim=0)  # sums overflow
    if bool(good.all()):
        return
    bad = (~good).nonzero().flatten().tolist()
    shown = ", ".join(map(str, bad[:20])) + (f" and {len(bad) - 20} more" if len(bad) > 20 else "")
    raise ValueError(
        f"{name} of shape {tuple(values.shape)} must be finite, but there is NaN or inf in, or "
        f"in the feature maps of, the samples {shown}. Remove these samples."
    )


def _finite_sum(*tensors: Tensor) -> bool:
    sums = [tensor.sum(dtype=_sum_dtype(tensor)) for tensor in tensors]
    return math.isfinite(sum(sums[1:], sums[0]).item())


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    wide = not tensor.is_floating_point() or tensor.dtype.itemsize < 4
    return torch.float32 if wide else tensor.dtype


def check_strengths(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """:return: strengths of residues, as ascending fractions of a dynamic range"""
    strengths = tuple(check_number(name, value, low=1e-9, high=1.0) for value in values)
    if not strengths or list(strengths) != sorted(set(strengths)):
        raise ValueError(f"{name} must be ascending fractions of the dynamic range, got {values}.")
    return strengths


def check_range(
    name: str, value: float | Sequence[float] | None
) -> float | tuple[float, ...] | None:
    """:return: one positive number, one per channel, or ``None``"""
    if value is None or isinstance(value, (int, float)):
        return None if value is None else check_number(name, value, low=1e-30)
    return tuple(check_number(name, width, low=1e-30) for width in value)
