"""
Shapes without fine detail, which quiet directions consist of.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ...attacks.gradient import gaussian_blur
from .descent import Shape
from .target import Target

__all__ = ["Blurred", "Coarse"]


@dataclass(frozen=True)
class Blurred(Shape):
    """
    :param sigma: standard deviation of the Gaussian in pixels
    """

    sigma: float
    reach = 3.0
    step = 0.2

    def __call__(self, free: Tensor, target: Target) -> Tensor:
        """See :meth:`Shape.__call__`."""
        return gaussian_blur(free, self.sigma)


@dataclass(frozen=True)
class Coarse(Shape):
    """
    A grid of fewer pixels, enlarged: low frequencies only.

    :param factor: how many pixels a step of the grid has
    """

    factor: int
    reach = 2.0
    step = 0.2

    def __call__(self, free: Tensor, target: Target) -> Tensor:
        """See :meth:`Shape.__call__`."""
        grid = functional.avg_pool2d(free, self.factor, ceil_mode=True)
        return functional.interpolate(grid, free.shape[2:], mode="bilinear", align_corners=False)
