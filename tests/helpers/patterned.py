"""A classifier of faint patterns, hardly trained, that a few grey levels fool."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 3
SIZE = 16


def patterned(count: int, seed: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """
    :param count: number of images
    :param seed: seed of what is random
    :param channels: number of channels
    :return: smooth images in 8 bit with faint stripes that run across, down or neither, and their
        labels
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
    y = torch.arange(count) % CLASSES
    wave = torch.cos(torch.arange(SIZE) * torch.pi / 4)
    across, down = wave[:, None].expand(SIZE, SIZE), wave.expand(SIZE, SIZE)
    patterns = torch.stack([across, down, 0 * down])
    strength = 6 + 6 * torch.rand(count, 1, 1, 1, generator=generator)
    x = 0.15 + 0.7 * smooth + strength / 255 * patterns[y][:, None]
    return (x.clamp(0, 1) * 255).round() / 255, y


class PatternNet(nn.Module):
    """A convolution, pooling of its energy, and a linear head."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 12, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU())
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.conv(x)).mean(dim=(2, 3)))


@functools.cache
def _trained(channels: int) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = PatternNet(channels)
        x, y = patterned(96, 7, channels)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def pattern_net(channels: int = 3) -> PatternNet:
    """:return: the trained classifier, a new one at each call"""
    net = PatternNet(channels)
    net.load_state_dict(_trained(channels))
    return net.eval()


def batches(count: int, seed: int, channels: int = 3) -> list[tuple[Tensor, Tensor]]:
    """:return: :func:`patterned` images in batches of 32"""
    x, y = patterned(count, seed, channels)
    return list(zip(x.split(32), y.split(32), strict=True))
