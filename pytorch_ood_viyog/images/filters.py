"""
What cameras and editors do to images in [0, 1], :math:`B \\times C \\times H \\times W`: blur,
sharpening, resampling, tone and bit depth; neither clipped nor rounded.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "change_contrast",
    "change_gamma",
    "gaussian_blur",
    "reduce_bit_depth",
    "resample",
    "sharpen",
]

# radius of the unsharp mask, in pixels
_SHARPENING_RADIUS = 1.0


def gaussian_blur(x: Tensor, radius: float) -> Tensor:
    """
    :param x: :math:`B \\times C \\times H \\times W`, any values
    :param radius: standard deviation of the Gaussian in pixels
    :return: ``x`` blurred, its borders repeated
    """
    reach = max(1, math.ceil(3 * radius))
    positions = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = (-0.5 * (positions / radius).square()).exp()
    weights = (weights / weights.sum()).to(x)
    channels = x.shape[1]
    padded = functional.pad(x, (reach,) * 4, mode="replicate")
    for shape in ((1, -1), (-1, 1)):
        kernel = weights.view(1, 1, *shape).expand(channels, 1, *shape)
        padded = functional.conv2d(padded, kernel, groups=channels)
    return padded


def sharpen(x: Tensor, percent: float) -> Tensor:
    """Unsharp mask of radius 1 px: adds so many percent of what a blur takes away."""
    return x + percent / 100 * (x - gaussian_blur(x, _SHARPENING_RADIUS))


def resample(x: Tensor, factor: float) -> Tensor:
    """Bicubic, antialiased, to so many times the height and width and back."""
    height, width = x.shape[2:]
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    options = {"mode": "bicubic", "antialias": True}
    between = functional.interpolate(x, size=size, **options)  # type: ignore[arg-type]
    return functional.interpolate(between, size=(height, width), **options)  # type: ignore[arg-type]


def change_contrast(x: Tensor, factor: float) -> Tensor:
    """Changes the distance from mid-grey by a factor."""
    return (x - 0.5) * factor + 0.5


def change_gamma(x: Tensor, exponent: float) -> Tensor:
    """An exponent below 1 brightens, one above 1 darkens."""
    return x**exponent


def reduce_bit_depth(x: Tensor, bits: float) -> Tensor:
    """:math:`2^{bits}` values a channel."""
    steps = 2**bits - 1
    return (x * steps).round() / steps
