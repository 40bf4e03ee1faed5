"""A linear classifier and detectors whose price of evasion is known by hand."""

import torch
from pytorch_ood.api import Detector
from torch import Tensor, nn

GREY = 128 / 255


class Halves(nn.Module):
    """
    Two classes of grey images (B, 1, 4, 4) by the sign of
    :math:`s = \\sum_{left} (x - g) + \\frac{1}{2} \\sum_{right} (x - g)`.
    """

    def __init__(self):
        super().__init__()
        weight = torch.ones(1, 4, 4)
        weight[..., 2:] = 0.5
        self.weight = nn.Parameter(weight)
        self.dropout = nn.Dropout(0.5)  # would show in training mode

    def forward(self, x: Tensor) -> Tensor:
        s = (self.dropout(x - GREY) * self.weight).sum(dim=(1, 2, 3)) - 1e-4
        return torch.stack([s, -s], dim=1)


def halves_images(count: int) -> Tensor:
    """
    Image :math:`i` is grey on the left and :math:`i` steps brighter on the right: :math:`4 i`
    steps in all, against 12 for each step of a budget, and 4 where the left half is watched.
    """
    x = torch.full((count, 1, 4, 4), GREY)
    x[..., 2:] += torch.arange(1.0, count + 1).view(-1, 1, 1, 1) / 255
    return x


class LeftWatch(Detector):
    """How far the left half is from grey, in steps."""

    requires_fit = False

    def __init__(self, model: nn.Module | None):
        self.model = model

    def fit(self, data_loader, *args, **kwargs):
        return self

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        return 255 * self._deviation(x.detach()).mean(dim=(1, 2, 3))

    def _deviation(self, x: Tensor) -> Tensor:
        return (x[..., :2] - GREY).abs()


class WatchInNumPy(LeftWatch):
    """The same without gradients."""

    def _deviation(self, x: Tensor) -> Tensor:
        return torch.from_numpy(abs(x.numpy()[..., :2] - GREY))


class WatchWithNoise(LeftWatch):
    """The same with a little noise in each call."""

    def _deviation(self, x: Tensor) -> Tensor:
        return super()._deviation(x) + 1e-4 * torch.rand(len(x), 1, 1, 1)


class Misleading(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, gradient):
        return -gradient
