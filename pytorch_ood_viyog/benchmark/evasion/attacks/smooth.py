"""
Shapes without fine detail, which quiet directions consist of.
"""

from collections.abc import Callable
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
    travel = 4.0

    def of(self, target: Target) -> Callable[[Tensor], Tensor]:
        """See :meth:`Shape.of`."""
        return lambda free: gaussian_blur(free, self.sigma)


@dataclass(frozen=True)
class Coarse(Shape):
    """
    A grid of fewer pixels, enlarged: low frequencies only.

    :param factor: how many pixels a step of the grid has
    """

    factor: int
    reach = 2.0
    travel = 4.0

    def of(self, target: Target) -> Callable[[Tensor], Tensor]:
        """See :meth:`Shape.of`."""
        size = target.x.shape[2:]

        def enlarged(free: Tensor) -> Tensor:
            grid = functional.avg_pool2d(free, self.factor, ceil_mode=True)
            return functional.interpolate(grid, size, mode="bilinear", align_corners=False)

        return enlarged
