"""
What cameras and editors do to images: blur, sharpening, resampling, tone and bit depth.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from .pixels import check_images, to_8_bit

__all__ = [
    "blur",
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
    :return: ``x`` blurred, its borders repeated; neither clipped nor rounded
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


def blur(x: Tensor, radius: float) -> Tensor:
    """
    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param radius: standard deviation of the Gaussian in pixels
    :return: blurred images, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1]
    """
    return to_8_bit(gaussian_blur(check_images(x), radius))


def sharpen(x: Tensor, percent: float) -> Tensor:
    """
    Unsharp mask of radius 1 px: adds a share of what a blur takes away.

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param percent: share that is added, in percent
    :return: sharpened images, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1]
    """
    detail = check_images(x) - gaussian_blur(x, _SHARPENING_RADIUS)
    return to_8_bit(x + percent / 100 * detail)


def resample(x: Tensor, factor: float) -> Tensor:
    """
    Bicubic, antialiased, to another size and back.

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param factor: height and width in between, as share of those of ``x``
    :return: images of the old size, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1]
    """
    height, width = check_images(x).shape[2:]
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    options = {"mode": "bicubic", "antialias": True}
    between = functional.interpolate(x, size=size, **options)  # type: ignore[arg-type]
    back = functional.interpolate(between, size=(height, width), **options)  # type: ignore[arg-type]
    return to_8_bit(back)


def change_contrast(x: Tensor, factor: float) -> Tensor:
    """
    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param factor: factor of the distance from mid-grey
    :return: changed images, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1]
    """
    return to_8_bit((check_images(x) - 0.5) * factor + 0.5)


def change_gamma(x: Tensor, exponent: float) -> Tensor:
    """
    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param exponent: exponent of the pixel values; below 1 brightens, above 1 darkens
    :return: changed images, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1]
    """
    return to_8_bit(check_images(x) ** exponent)


def reduce_bit_depth(x: Tensor, bits: float) -> Tensor:
    """
    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param bits: bits a channel
    :return: images with :math:`2^{bits}` values a channel
    :raises ValueError: if images are outside [0, 1]
    """
    steps = 2**bits - 1
    return to_8_bit((check_images(x) * steps).round() / steps)
