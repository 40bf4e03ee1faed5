"""
Images as the changes of this room take and give them: floats in [0, 1], steps of 1/255.
"""

import torch
from torch import Tensor

__all__ = ["check_images", "standard_normal", "to_8_bit"]


def check_images(x: Tensor, channels: tuple[int, ...] = ()) -> Tensor:
    """
    :param x: images of shape :math:`B \\times C \\times H \\times W`
    :param channels: numbers of channels that are possible; any, if empty
    :return: ``x``
    :raises TypeError: if ``x`` is no floating point tensor
    :raises ValueError: if it has another shape, or values outside [0, 1]
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"Images must be a floating point tensor, got {kind}.")
    if x.dim() != 4:
        raise ValueError(f"Images must have the shape B × C × H × W, got {tuple(x.shape)}.")
    if channels and x.shape[1] not in channels:
        wanted = " or ".join(map(str, channels))
        raise ValueError(f"This change needs images of {wanted} channels, got {x.shape[1]}.")
    if x.numel() and not bool((x.amin() >= 0) & (x.amax() <= 1)):
        raise ValueError(
            f"Images must be in [0, 1], got values from {x.amin():.4g} to {x.amax():.4g}. Change "
            f"them before they are normalised."
        )
    return x


def to_8_bit(x: Tensor) -> Tensor:
    """
    :param x: images of any range
    :return: clipped to [0, 1] and rounded to steps of 1/255, as a file or a sensor stores them
    """
    return (x.clamp(0, 1) * 255).round() / 255


def standard_normal(x: Tensor, seed: int) -> Tensor:
    """
    :param x: images
    :param seed: seed of the numbers
    :return: standard normal numbers of the shape, type and device of ``x``; the same for a seed
        on every device
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(x.shape, generator=generator).to(x)
