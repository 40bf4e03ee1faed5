"""
Noise of sensors, with standard deviations in grey levels of 255.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .filters import gaussian_blur
from .pixels import check_images, standard_normal, to_8_bit

__all__ = ["correlated_noise", "demosaiced_noise", "poisson_gaussian_noise", "white_noise"]

# pixels over which correlated noise is alike
_CORRELATION_LENGTH = 0.7
# share of the variance at mid-grey that does not depend on brightness (read noise)
_READ_SHARE = 0.1
# bilinear demosaicing: weights of the measured pixels around one
_BILINEAR = ((0.25, 0.5, 0.25), (0.5, 1.0, 0.5), (0.25, 0.5, 0.25))


def white_noise(x: Tensor, levels: float, *, seed: int = 0) -> Tensor:
    """
    Independent Gaussian noise at every pixel and channel.

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param levels: standard deviation in grey levels of 255
    :param seed: seed of the noise
    :return: noisy images, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1]
    """
    return to_8_bit(check_images(x) + levels / 255 * standard_normal(x, seed))


def poisson_gaussian_noise(x: Tensor, levels: float, *, seed: int = 0) -> Tensor:
    """
    Shot and read noise of a sensor: its variance grows with brightness, in the normal
    approximation of the Poisson distribution.

    .. math:: \\sigma(x)^2 = levels^2 \\cdot (0.1 + 1.8 x)

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param levels: standard deviation at mid-grey, in grey levels of 255
    :param seed: seed of the noise
    :return: noisy images, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1]
    """
    variance = _READ_SHARE + 2 * (1 - _READ_SHARE) * check_images(x)
    return to_8_bit(x + levels / 255 * variance.sqrt() * standard_normal(x, seed))


def correlated_noise(x: Tensor, levels: float, *, seed: int = 0) -> Tensor:
    """
    Gaussian noise that neighbours share, as denoising and resampling in a camera leave it: white
    noise blurred by a Gaussian of 0.7 px.

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param levels: standard deviation in grey levels of 255
    :param seed: seed of the noise
    :return: noisy images, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1]
    """
    noise = gaussian_blur(standard_normal(check_images(x), seed), _CORRELATION_LENGTH)
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1
    deviation = gaussian_blur(impulse, _CORRELATION_LENGTH).square().sum().sqrt()
    return to_8_bit(x + levels / 255 * noise / deviation.item())


def demosaiced_noise(x: Tensor, levels: float, *, seed: int = 0) -> Tensor:
    """
    Noise of a sensor that measures one colour at a pixel (RGGB Bayer pattern): white noise at the
    measured pixels, interpolated bilinearly to the others.

    :param x: colour images in [0, 1], :math:`B \\times 3 \\times H \\times W`
    :param levels: standard deviation at measured pixels, in grey levels of 255
    :param seed: seed of the noise
    :return: noisy images, rounded to 8 bit
    :raises ValueError: if images are outside [0, 1] or have other than 3 channels
    """
    measured = torch.zeros_like(check_images(x, (3,))[:1])
    measured[:, 0, ::2, ::2] = measured[:, 2, 1::2, 1::2] = 1
    measured[:, 1, ::2, 1::2] = measured[:, 1, 1::2, ::2] = 1
    kernel = torch.tensor(_BILINEAR).to(x).expand(3, 1, 3, 3)
    noise = functional.conv2d(standard_normal(x, seed) * measured, kernel, padding=1, groups=3)
    weight = functional.conv2d(measured, kernel, padding=1, groups=3)
    return to_8_bit(x + levels / 255 * noise / weight.clamp_min(0.25))
