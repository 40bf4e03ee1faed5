"""ID images for detectors that read how images differ from natural ones."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pytorch_ood_viyog.images.filters import gaussian_blur


def images(count: int, seed: int, size: int = 20) -> Tensor:
    """Images in [0, 1], rounded to 8 bit."""
    x = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    for _ in range(3):  # as smooth as natural images are
        x = avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    x = ((x - 0.5) * 3 + 0.5).clamp(0, 1)
    return (x * 255).round() / 255


def photo(count: int = 2, channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    """Blurred noise in [0, 1], rounded to 8 bit."""
    x = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))
    return (gaussian_blur(x, 1.5).clamp(0, 1) * 255).round() / 255


def noisy(x: Tensor, levels: float = 8) -> Tensor:
    """The images with a sign of so many levels on each value, as of an attack."""
    generator = torch.Generator().manual_seed(5)
    return x + levels / 255 * torch.randn(x.shape, generator=generator).sign()
