"""First layers that are linear and no plain convolutions, and some that are not linear."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class SameConv(nn.Conv2d):
    """TensorFlow's "same": the padding depends on the input's size, and may be uneven."""

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for axis in (3, 2):
            size, stride, taps = x.shape[axis], self.stride[axis - 2], self.kernel_size[axis - 2]
            total = max((math.ceil(size / stride) - 1) * stride + taps - size, 0)
            sides += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, sides), self.weight, self.bias, self.stride)


class StandardisedConv(nn.Conv2d):
    """Weights standardised in each forward pass, as in BiT and NFNets."""

    def forward(self, x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / (deviation + 1e-6)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class QuantisedWeights(nn.Conv2d):
    """Weights on a grid of 8 bits; with ``inputs`` the inputs too, which is not linear."""

    def __init__(self, *args: int, inputs: bool = False, **kwargs: int):
        super().__init__(*args, **kwargs)
        self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.fake_quantize_per_tensor_affine(self.weight.float(), 0.01, 0, -128, 127)
        if self.inputs:
            x = torch.fake_quantize_per_tensor_affine(x.float(), 1 / 64, 0, -128, 127)
        return functional.conv2d(x, weight.to(x.dtype), self.bias, self.stride, self.padding)


class LowRank(nn.Module):
    """A convolution with a low-rank addition, as LoRA wraps it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Conv2d(3, 12, 3, padding=1)
        self.down = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.up = nn.Conv2d(2, 12, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 0.5 * self.up(self.down(x))


class UnfoldedPatches(nn.Module):
    """A patch embedding of ``unfold`` and ``Linear``; as tokens, or as maps."""

    def __init__(self, tokens: bool = False):
        super().__init__()
        self.tokens = tokens
        self.embed = nn.Linear(3 * 4 * 4, 12)

    def forward(self, x: Tensor) -> Tensor:
        patches = functional.unfold(x, 4, stride=4).transpose(1, 2)
        tokens = self.embed(patches)
        if self.tokens:
            return tokens
        grid = [size // 4 for size in x.shape[2:]]
        return tokens.transpose(1, 2).reshape(len(x), -1, *grid)


#: name -> layer of 3 channels to maps of at least 4 channels
LINEAR = {
    "same, stride 2": lambda: SameConv(3, 12, 3, stride=2),
    "same, stride 3": lambda: SameConv(3, 12, 4, stride=3),
    "standardised": lambda: StandardisedConv(3, 12, 3, padding=1),
    "circular": lambda: nn.Conv2d(3, 12, 3, padding=1, padding_mode="circular"),
    "reflect": lambda: nn.Conv2d(3, 12, 5, padding=2, padding_mode="reflect"),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 12, 3, padding=1)),
    "weight norm by hook": lambda: nn.utils.weight_norm(nn.Conv2d(3, 12, 3, padding=1)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 12, 3)),
    "low rank": LowRank,
    "quantised weights": lambda: QuantisedWeights(3, 12, 3, padding=1),
    "unfolded patches": UnfoldedPatches,
    "padding, convolution": lambda: nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 12, 3, 2)
    ),
    "space to depth": lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 12, 1)),
    "two convolutions": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 12, 3, bias=False)),
    "convolution, batch norm": lambda: nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)),
}


class Stemmed(nn.Module):
    """A classifier with a given first layer."""

    def __init__(self, stem: nn.Module):
        super().__init__()
        self.stem = stem
        self.head = nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).relu().flatten(2).mean(dim=2))


class TwoBranches(nn.Module):
    """The stem of RepVGG: the 1×1 branch runs first, the 3×3 branch takes the same tensor."""

    def __init__(self, stride: int = 1, inplace: bool = False):
        super().__init__()
        self.narrow = nn.Conv2d(3, 12, 1)
        self.wide = nn.Conv2d(3, 12, 3, stride=stride, padding=1)
        self.inplace = inplace
        self.body = nn.Conv2d(12, 3, 3)
        self.late = nn.Conv2d(3, 12, 3)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.narrow(x)
        if self.inplace:
            x = x.clamp_(max=0.5)
        maps = maps.mean(dim=(2, 3)) + self.wide(x).mean(dim=(2, 3))
        features = self.late(self.body(maps[..., None, None].expand(-1, -1, 5, 5)))
        return self.head(features.mean(dim=(2, 3)))
