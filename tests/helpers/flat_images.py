"""A benchmark that is worked out by hand: flat images, two classes, scores of brightness."""

import torch
from pytorch_ood.api import Detector
from torch import Tensor, nn

__all__ = ["Bright", "Mean", "brighten", "flat"]


class Bright(nn.Module):
    """Class 0 for dark and class 1 for bright images."""

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean(dim=(1, 2, 3)) - self.threshold
        return torch.stack([-bright, bright], dim=1)


class Mean(Detector):
    """Score: brightness times a factor."""

    def __init__(self, factor: float = 1):
        self.factor = factor

    def predict(self, x: Tensor) -> Tensor:
        return self.factor * x.mean(dim=(1, 2, 3))


def flat(*values: float) -> Tensor:
    """One 3 × 8 × 8 image of each brightness."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).clone()


def brighten(amount: float):
    """:return: an attack that adds a constant"""
    return lambda model, x, y: (x + amount).clamp(0, 1)
