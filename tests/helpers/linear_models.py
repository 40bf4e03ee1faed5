"""A classifier of grey images whose attacks are known by hand."""

import torch
from torch import Tensor, nn


class Brightness(nn.Module):
    """Two classes, by whether the mean of an image is above a half: margins are known by hand."""

    def forward(self, x: Tensor) -> Tensor:
        s = 100 * (x.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([s, -s], dim=1)


class WithoutGradients(nn.Module):
    """Answers as the model does, and lets no gradient through."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.net = model

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).detach()
