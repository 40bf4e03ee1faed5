"""
Images seen otherwise, as plain tensor code for any device: by filters that take fine residues out
and keep edges, and from elsewhere, where each pixel meets other weights of the model.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["bilateral", "median_of_four", "mirrored", "moved"]

# standard deviation over space in pixels, and reach of the window
_SPACE, _REACH = 1.5, 2
# how far an image is moved, as a share of each side
_FAR = 0.06


def bilateral(x: Tensor, strength: float | Tensor = 8 / 255) -> Tensor:
    """
    Mean over a window of 5 × 5 pixels, weighted by how near they are in space and in colour:

    .. math::
        y_p = \\frac{\\sum_q w_{pq} x_q}{\\sum_q w_{pq}}, \\qquad
        w_{pq} = \\exp\\left(-\\frac{|p - q|^2}{2 s^2}
        - \\frac{\\mathrm{mean}_c (x_p - x_q)^2}{2 \\sigma^2}\\right)

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param strength: :math:`\\sigma`, differences of colour that count as noise; one number, or
        one for each image
    :return: filtered images, same shape
    :see: Tomasi and Manduchi, *Bilateral filtering for gray and color images*, ICCV 1998
    """
    sigma = torch.as_tensor(strength, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
    steepness = 0.5 / sigma.square()
    height, width = x.shape[2:]
    padded = functional.pad(x, (_REACH,) * 4, mode="replicate")
    total, weights = x, torch.ones_like(x[:, :1])
    for down, right in _half_of_the_shifts():
        # two pixels are as far from each other one way as the other, so a weight counts twice
        top, left = _REACH - max(down, 0), _REACH - right
        rows, columns = height + abs(down), width + right
        here = padded[:, :, top : top + rows, left : left + columns]
        there = padded[:, :, top + down :, left + right :][:, :, :rows, :columns]
        colour = (here - there).square().mean(dim=1, keepdim=True)
        apart = (down**2 + right**2) / (2 * _SPACE**2)
        both = torch.exp(-colour * steepness - apart)
        ways = (max(down, 0), right, there), (max(-down, 0), 0, here)
        for up, side, values in ways:
            weight = both[:, :, up : up + height, side : side + width]
            near = values[:, :, up : up + height, side : side + width]
            total, weights = total + weight * near, weights + weight
    return total / weights


def _half_of_the_shifts() -> Iterator[tuple[int, int]]:
    for right in range(_REACH + 1):
        for down in range(1 if right == 0 else -_REACH, _REACH + 1):
            yield down, right


def median_of_four(x: Tensor) -> Tensor:
    """
    Second largest of 2 × 2 pixels of each channel: that one and those above and to the left.

    :param x: images, :math:`B \\times C \\times H \\times W`
    :return: filtered images, same shape
    """
    padded = functional.pad(x, (1, 0, 1, 0), mode="replicate")
    above, below = padded[:, :, :-1], padded[:, :, 1:]
    high, low = torch.maximum(above, below), torch.minimum(above, below)
    less = torch.minimum(high[..., :-1], high[..., 1:])
    return torch.maximum(less, torch.maximum(low[..., :-1], low[..., 1:]))


def moved(x: Tensor) -> Tensor:
    """
    :param x: images, :math:`B \\times C \\times H \\times W`
    :return: moved down and to the right by 6 % of their sides, at least a pixel; what comes in is
        the border's reflection
    """
    height, width = x.shape[2:]
    down, right = (min(max(1, round(_FAR * side)), side - 1) for side in (height, width))
    padded = functional.pad(x, (right, 0, down, 0), mode="reflect")
    return padded[:, :, :height, :width]


def mirrored(x: Tensor) -> Tensor:
    """
    :param x: images, :math:`B \\times C \\times H \\times W`
    :return: left and right exchanged
    """
    return x.flip(3)
