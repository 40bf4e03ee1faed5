"""Models with something inside that a detector of the first layer must notice."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Small(nn.Module):
    """A stem, a head, and the seed that all share."""

    def __init__(self, channels: int = 3, maps: int = 16, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(channels, maps, 3, padding=1)
            self.head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head.append(nn.Linear(maps, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x))


class Chunked(Small):
    """Micro-batches."""

    def __init__(self, size: int = 8, split: str = "split"):
        super().__init__()
        self.size, self.split = size, split

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.size) if self.split == "split" else x.chunk(self.size)
        return torch.cat([super(Chunked, self).forward(part) for part in parts])


class Backwards(Small):
    """Micro-batches, the last first."""

    def forward(self, x: Tensor) -> Tensor:
        parts = [super(Backwards, self).forward(part) for part in x.split(3)[::-1]]
        return torch.cat(parts[::-1])


class Frames(Small):
    """(B, T, C, H, W) as T images of each sample."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x.flatten(0, 1))).view(*x.shape[:2], -1).mean(1)


class FramesInTurn(Small):
    """The first frame of all samples, then the second of all, ..."""

    def forward(self, x: Tensor) -> Tensor:
        return sum(self.head(self.stem(frame)) for frame in x.unbind(1)) / x.shape[1]


class Pairs(Small):
    """Two images in one input, through the same stem."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x[:, :3])) - self.head(self.stem(x[:, 3:]))


class Crops(Small):
    """The four corners of an image, as views in one batch."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1] * 3 // 4
        views = [x[..., a, b] for a in (slice(size), slice(-size, None)) for b in _ends(size)]
        return self.head(self.stem(torch.cat(views))).view(4, len(x), -1).mean(0)


def _ends(size: int) -> tuple[slice, slice]:
    return slice(size), slice(-size, None)


class Tiles(Small):
    """Sixteen parts of each image, as rows of their own."""

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1] // 4
        tiles = x.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)
        return self.head(self.stem(tiles.flatten(0, 2))).view(x.shape[0], 16, -1).mean(1)


class Flipped(Small):
    """Test-time augmentation: the image, and its mirror image."""

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) + super().forward(x.flip(-1))) / 2


class Sorted(Small):
    """The darkest image first, back in order at the end."""

    def forward(self, x: Tensor) -> Tensor:
        order = x.mean(dim=(1, 2, 3)).argsort()
        return super().forward(x[order])[order.argsort()]


class MiddleTurned(Small):
    """First and last image in their places, those between from behind."""

    def forward(self, x: Tensor) -> Tensor:
        order = torch.arange(len(x))
        order[1:-1] = order[1:-1].flip(0)
        return super().forward(x[order])[order]


class Every2nd(Small):
    """Only every second sample is looked at."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x[::2])).repeat_interleave(2, dim=0)[: len(x)]


class Pooled(Small):
    """A convolution on a pooled copy, which runs first and feeds a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(3, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(functional.avg_pool2d(x, 4)).mean(dim=(2, 3), keepdim=True).sigmoid()
        return self.head(self.stem(x) * gate)


class Attended(Small):
    """An attention gate beside the stem, of the very same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x) * self.gate(x).sigmoid())


class ChannelGate(Small):
    """Each channel of the image is scaled by what a convolution says of all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * (1 + self.gate(x.mean(dim=(2, 3), keepdim=True)).sigmoid()))


class Tanh(Small):
    """A convolution by function, then tanh, then the first module."""

    def __init__(self) -> None:
        super().__init__(channels=8)
        generator = torch.Generator().manual_seed(1)
        self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3, generator=generator) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.conv2d(x, self.kernel, padding=1).tanh())


class Pooling(Small):
    """Something else that is not linear, before the stem."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.max_pool2d(x, 3, stride=1, padding=1))


class Cosines(nn.Module):
    """An 8×8 DCT by function, divided by deviations, then 1×1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        k = torch.arange(8.0)
        basis = torch.cos(torch.pi / 8 * (k[None] + 0.5) * k[:, None])
        basis[0] /= 2**0.5
        patches = (basis[:, None, :, None] * basis[None, :, None, :]).reshape(64, 1, 8, 8) / 4
        self.register_buffer("patches", patches.repeat(3, 1, 1, 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            order = 1 + k[None] + k[:, None]
            self.register_buffer("deviations", (2 / order**2).reshape(-1, 1, 1).repeat(3, 1, 1))
            self.stem = nn.Conv2d(192, 96, 1)
            self.head = nn.Linear(96, 5)

    def forward(self, x: Tensor) -> Tensor:
        mean, std = x.new_tensor([0.48, 0.45, 0.4]), x.new_tensor([0.23, 0.22, 0.23])
        x = x * std.view(3, 1, 1) + mean.view(3, 1, 1)
        bands = functional.conv2d(x, self.patches, stride=8, groups=3) / self.deviations
        return self.head(self.stem(bands).relu().mean(dim=(2, 3)))


class Moved(Small):
    """What moves or scales the image's values, before the stem."""

    def __init__(self, how: str):
        channels = {"unshuffle": 12, "grey": 3, "stack": 4}.get(how, 3)
        super().__init__(channels=channels, maps=64 if how == "unshuffle" else 16)
        self.how = how
        self.norm = nn.InstanceNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(
            {
                "unshuffle": lambda: functional.pixel_unshuffle(x, 2),
                "bgr": lambda: x.flip(1),
                "pad": lambda: functional.pad(x, (3, 3, 3, 3)),
                "normalise": lambda: (x - 0.45) / 0.22,
                "instance": lambda: self.norm(x),
                "gamma": lambda: x.clamp_min(0).pow(2.2),
                "crop": lambda: x[..., 2:-2, 2:-2],
                "grey": lambda: x[:, :1].expand(-1, 3, -1, -1),
                "ycc": lambda: torch.einsum("dc,bchw->bdhw", _ycc().to(x), x),
                "nhwc": lambda: x.permute(0, 3, 1, 2),
            }[self.how]()
        )


def _ycc() -> Tensor:
    return torch.tensor([[0.3, 0.59, 0.11], [-0.17, -0.33, 0.5], [0.5, -0.42, -0.08]])


class Adapted(nn.Module):
    """A convolution with a low-rank adapter beside it, wrapped as adapters are."""

    def __init__(self, net: Small):
        super().__init__()
        self.base_layer = net.stem
        self.lora_A = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.lora_B = nn.Conv2d(2, 16, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + 0.7 * self.lora_B(self.lora_A(x))


def adapted() -> nn.Module:
    net = Small()
    net.stem = Adapted(net)
    return net
