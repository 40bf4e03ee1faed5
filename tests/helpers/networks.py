"""Small networks with the stems that the detectors must cope with, seeded and ready to pickle."""

import torch
from torch import Tensor, nn


class Stem(nn.Module):
    """Batch norm and dropout *before* the convolution: their state would show if they trained."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.5)
        self.conv = nn.Conv2d(channels, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.dropout(self.norm(x)))


class SmallNet(nn.Module):
    def __init__(self, channels: int = 3):
        super().__init__()
        self.stem = Stem(channels)
        self.body = nn.Sequential(nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 4, 3))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean(dim=(2, 3)))


class InPlaceStem(nn.Module):
    """The ReLU overwrites the output of the convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x)).mean(dim=(2, 3))


class UsedTwice(nn.Module):
    """One convolution runs twice; its first run counts."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(10 * self.conv(x)).mean(dim=(2, 3))


class LateStem(nn.Module):
    """The convolution that is registered first runs last."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(6, 2, 1)
        self.stem = nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x))


class Unused(nn.Module):
    """A convolution that is registered and never runs."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Conv2d(3, 2, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(dim=(2, 3)))


class Signal(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv1d(2, 12, 5), nn.ReLU(), nn.Conv1d(12, 4, 3))


class Volume(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv3d(1, 12, 3), nn.ReLU(), nn.Conv3d(12, 4, 3))


class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyConv2d(12, 3), nn.LazyBatchNorm2d(), nn.ReLU())


class Faulty(nn.Module):
    """Raises in the forward pass, before the convolution, when ``broken``."""

    def __init__(self):
        super().__init__()
        self.broken = False
        self.conv = nn.Conv2d(3, 12, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.broken:
            torch.rand(1)
            raise ArithmeticError("raised by the user's model")
        return self.conv(x)


class Swallowing(nn.Module):
    """Catches every exception of its stem, as some fallback code does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.conv(x)
        except Exception:
            return x


def build(network: type[nn.Module], *args: object, seed: int = 0) -> nn.Module:
    """The network with weights of a fixed seed, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(*args).eval()


def close_classes() -> tuple[nn.Module, Tensor, Tensor]:
    """A net whose classes lie close together, so that small changes matter; images, answers."""
    layers = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(256, 6)).eval()
    x = torch.randint(0, 256, (8, 3, 20, 20)) / 255
    with torch.no_grad():
        model[-1].bias -= model(x).mean(0)
        return model, x, model(x).argmax(dim=1)
