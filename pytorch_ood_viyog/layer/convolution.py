"""
Which modules are convolutions.
"""

from torch.nn import Conv1d, Conv2d, Conv3d

__all__ = ["CONVOLUTIONS", "Convolution"]

CONVOLUTIONS = (Conv1d, Conv2d, Conv3d)

Convolution = Conv1d | Conv2d | Conv3d
