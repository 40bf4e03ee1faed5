"""
Smooth residues: what an attacker adds who avoids the finest detail.
"""

import math

import torch
from torch import Tensor

from ..layer.linear.precise_convolution import convolve

__all__ = ["smooth_signs"]


def smooth_signs(signs: Tensor, width: float) -> Tensor:
    """
    Random signs, blurred, brought back to a mean square of 1 and clipped to [-1, 1]: like an
    attack that is blurred in every step, they use most of the budget nearly everywhere.

    .. math:: \\max(-1, \\min(1,\\ G * \\delta \\,/\\, \\lVert G \\rVert_2))

    with a Gaussian :math:`G`; beyond the border, the field repeats itself.

    :param signs: :math:`\\delta`, independent signs, :math:`B \\times C \\times *S`
    :param width: standard deviation of the Gaussian, in positions
    :return: values in [-1, 1], of the same shape, float32
    """
    reach = max(1, math.ceil(3 * width))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device=signs.device)
    weights = (-0.5 * (offsets / width).square()).exp()
    weights = (weights / weights.norm()).to(torch.float32)
    blurred = signs.float()
    for axis in range(2, signs.dim()):
        rows = blurred.movedim(axis, -1)
        size = rows.shape[-1]
        around = torch.arange(-reach, size + reach, device=signs.device) % size
        lines = rows[..., around].reshape(-1, 1, size + 2 * reach)
        blurred = convolve(lines, weights.view(1, 1, -1), (1,)).view(rows.shape).movedim(-1, axis)
    return blurred.clamp(-1, 1)
