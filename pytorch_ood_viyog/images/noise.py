"""
Noise of sensors: images in [0, 1], :math:`B \\times C \\times H \\times W`, with noise whose
standard deviation is given in grey levels of 255; neither clipped nor rounded.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .filters import gaussian_blur
from .pixels import standard_normal

__all__ = ["correlated_noise", "demosaiced_noise", "poisson_gaussian_noise", "white_noise"]

# pixels over which correlated noise is alike
_CORRELATION_LENGTH = 0.7
# share of the variance at mid-grey that does not depend on brightness (read noise)
_READ_SHARE = 0.1
# bilinear demosaicing: weights of the measured pixels around one
_BILINEAR = ((0.25, 0.5, 0.25), (0.5, 1.0, 0.5), (0.25, 0.5, 0.25))


def white_noise(x: Tensor, levels: float, seed: int) -> Tensor:
    """Independent Gaussian noise at every pixel and channel."""
    return x + levels / 255 * standard_normal(x, seed)


def poisson_gaussian_noise(x: Tensor, levels: float, seed: int) -> Tensor:
    """
    Shot and read noise of a sensor: its variance grows with brightness, in the normal
    approximation of the Poisson distribution; ``levels`` is that of mid-grey.

    .. math:: \\sigma(x)^2 = levels^2 \\cdot (0.1 + 1.8 x)
    """
    variance = _READ_SHARE + 2 * (1 - _READ_SHARE) * x
    return x + levels / 255 * variance.sqrt() * standard_normal(x, seed)


def correlated_noise(x: Tensor, levels: float, seed: int) -> Tensor:
    """
    Gaussian noise that neighbours share, as denoising and resampling in a camera leave it: white
    noise blurred by a Gaussian of 0.7 px.
    """
    noise = gaussian_blur(standard_normal(x, seed), _CORRELATION_LENGTH)
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1
    deviation = gaussian_blur(impulse, _CORRELATION_LENGTH).square().sum().sqrt()
    return x + levels / 255 * noise / deviation.item()


def demosaiced_noise(x: Tensor, levels: float, seed: int) -> Tensor:
    """
    Noise of a sensor that measures one colour at a pixel (RGGB Bayer pattern): white noise at the
    measured pixels, interpolated bilinearly to the others.
    """
    measured = torch.zeros_like(x[:1])
    measured[:, 0, ::2, ::2] = measured[:, 2, 1::2, 1::2] = 1
    measured[:, 1, ::2, 1::2] = measured[:, 1, 1::2, ::2] = 1
    kernel = torch.tensor(_BILINEAR).to(x).expand(3, 1, 3, 3)
    noise = functional.conv2d(standard_normal(x, seed) * measured, kernel, padding=1, groups=3)
    weight = functional.conv2d(measured, kernel, padding=1, groups=3)
    return x + levels / 255 * noise / weight.clamp_min(0.25)
