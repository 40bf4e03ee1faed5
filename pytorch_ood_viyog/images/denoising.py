"""
Filters that take fine residues out of images and keep edges, as plain tensor code for any device.
"""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["bilateral", "median"]

# standard deviation over space in pixels, and reach of the window
_SPACE, _REACH = 1.5, 2


def bilateral(x: Tensor, strength: float = 8 / 255) -> Tensor:
    """
    Mean over a window of 5 × 5 pixels, weighted by how near they are in space and in colour:

    .. math::
        y_p = \\frac{\\sum_q w_{pq} x_q}{\\sum_q w_{pq}}, \\qquad
        w_{pq} = \\exp\\left(-\\frac{|p - q|^2}{2 s^2}
        - \\frac{\\mathrm{mean}_c (x_p - x_q)^2}{2 \\sigma^2}\\right)

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param strength: :math:`\\sigma`, differences of colour that count as noise
    :return: filtered images, same shape
    :see: Tomasi and Manduchi, *Bilateral filtering for gray and color images*, ICCV 1998
    """
    height, width = x.shape[2:]
    padded = functional.pad(x, (_REACH,) * 4, mode="replicate")
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for row in range(2 * _REACH + 1):
        for column in range(2 * _REACH + 1):
            near = padded[:, :, row : row + height, column : column + width]
            apart = (row - _REACH) ** 2 + (column - _REACH) ** 2
            colour = (near - x).square().mean(dim=1, keepdim=True)
            weight = torch.exp(-colour / (2 * strength**2) - apart / (2 * _SPACE**2))
            total, weights = total + weight * near, weights + weight
    return total / weights


def median(x: Tensor) -> Tensor:
    """
    Median over 3 × 3 pixels of each channel, by a network of exchanges: exporters and GPUs know
    minimum and maximum.

    :param x: images, :math:`B \\times C \\times H \\times W`
    :return: filtered images, same shape
    :see: the exchanges are those of Paeth, *Median finding on a 3×3 grid*, Graphics Gems, 1990
    """
    height, width = x.shape[2:]
    padded = functional.pad(x, (1,) * 4, mode="replicate")
    near = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    for low, high in _EXCHANGES:
        near[low], near[high] = (
            torch.minimum(near[low], near[high]),
            torch.maximum(near[low], near[high]),
        )
    return near[4]


# sorts enough of nine values that the fifth is the median
_EXCHANGES = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3)),
    *((5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)
