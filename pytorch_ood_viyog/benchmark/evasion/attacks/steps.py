"""
How far each pixel goes along a direction, as a share of the step, in [-1, 1].
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Step", "proportional", "signed"]

#: direction (B, C, H, W) -> shares of the step
Step: TypeAlias = Callable[[Tensor], Tensor]

# pixels above it, in mean sizes of the direction, go the whole step
_WHOLE = 2.0


def signed(direction: Tensor) -> Tensor:
    """
    Every pixel goes the whole step: the fastest way in the :math:`L_\\infty` ball, and the one
    that leaves most fine detail behind.

    :param direction: (B, C, H, W)
    :return: its signs
    """
    return direction.sign()


def proportional(direction: Tensor) -> Tensor:
    """
    .. math:: \\min(1, \\max(-1, d / (2 \\overline{|d|})))

    Pixels that hardly matter stay as they are, so that the change has no more fine detail than
    the gradient has: much less for a detector of residues to see.

    :param direction: :math:`d`, (B, C, H, W)
    :return: shares of the step
    """
    mean = direction.abs().mean(dim=(1, 2, 3), keepdim=True)
    tiny = torch.finfo(direction.dtype).tiny
    return (direction / (_WHOLE * mean).clamp_min(tiny)).clamp(-1, 1)
