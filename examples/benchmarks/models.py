"""Small classifiers for the benchmarks: three stems, one trunk, trained on the CPU in minutes.

The stems are the three kinds of first layer met in practice: a 3×3 convolution (CIFAR-style
networks), a 7×7 convolution of stride 2 (ImageNet ResNets) and an 8×8 patch embedding (vision
transformers). Some models normalise their input inside, the others see raw pixels in [0, 1].
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from images import Images
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm


class Normalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation per colour channel."""

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """:param x: images (B, 3, H, W) in [0, 1]"""
        return (x - self.mean) / self.std


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norm, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = convolution(channels, channels), convolution(channels, channels)
        self.body = nn.Sequential(*first, *second)

    def forward(self, x: Tensor) -> Tensor:
        """:param x: feature maps (B, C, H, W)"""
        return x + self.body(x)


def convolution(inputs: int, outputs: int, size: int = 3, **options: int) -> list[nn.Module]:
    """:return: convolution without bias, batch norm, ReLU"""
    options.setdefault("padding", size // 2)
    return [
        nn.Conv2d(inputs, outputs, size, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def stem_3x3() -> list[nn.Module]:
    """:return: 3×3, stride 1, 64 channels on raw pixels; 32 px become 16 × 16 positions"""
    return [*convolution(3, 64), nn.MaxPool2d(2)]


def stem_3x3_normalized() -> list[nn.Module]:
    """:return: :func:`stem_3x3` behind a :class:`Normalize`"""
    return [Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26)), *stem_3x3()]


def stem_7x7() -> list[nn.Module]:
    """:return: 7×7, stride 2, 64 channels, normalised; 64 px become 16 × 16 positions"""
    return [
        Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        *convolution(3, 64, 7, stride=2),
        nn.MaxPool2d(2),
    ]


def stem_8x8() -> list[nn.Module]:
    """:return: 8×8 patches, stride 8, 96 channels on raw pixels; 64 px become 8 × 8 positions"""
    return convolution(3, 96, 8, stride=8, padding=0)


STEMS = {
    "3x3": stem_3x3,
    "3x3-normalized": stem_3x3_normalized,
    "7x7": stem_7x7,
    "8x8": stem_8x8,
}


def build(stem: str, classes: int) -> nn.Sequential:
    """
    :param stem: a name in ``STEMS``
    :param classes: number of logits
    :return: an untrained classifier, images (B, 3, H, W) in [0, 1] -> logits (B, classes)
    """
    if stem == "8x8":  # already at 8 × 8 positions
        middle = convolution(96, 128)
    else:
        middle = [*convolution(64, 64), nn.MaxPool2d(2), *convolution(64, 128)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, classes)]
    return nn.Sequential(*STEMS[stem](), *middle, Residual(128), *head)


def augment(x: Tensor, flip: bool, shift: int, generator: torch.Generator) -> Tensor:
    """
    Shifts each image by up to ``shift`` pixels, changes its contrast and brightness by up to
    40 % and, where allowed, mirrors half of them.

    :param x: images (B, 3, H, W)
    :param flip: traffic signs must not be mirrored, most photographs may
    :param shift: largest shift in pixels, edges are reflected
    :param generator: source of randomness
    """
    batch, _, height, width = x.shape
    padded = functional.pad(x, (shift,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * shift + 1, (2, batch, 1), generator=generator)
    rows = (top + torch.arange(height))[:, None, :, None]
    columns = left + torch.arange(width)
    if flip:
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    images, channels = torch.arange(batch)[:, None, None, None], torch.arange(3)[:, None, None]
    moved = padded[images, channels, rows, columns[:, None, None, :]]
    contrast, brightness = 0.6 + 0.8 * torch.rand(2, batch, 1, 1, 1, generator=generator)
    mean = moved.mean((1, 2, 3), keepdim=True)
    return ((moved - mean) * contrast + mean * brightness).clamp(0, 1)


def train(
    model: nn.Module,
    data: Images,
    epochs: int,
    flip: bool,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = True,
) -> nn.Module:
    """
    Stochastic gradient descent with one learning-rate cycle.

    :param model: trained in place and left in evaluation mode
    :param data: images (N, 3, H, W) in [0, 1] and labels (N,)
    :param epochs: passes over the data
    :param flip: whether mirror images keep their label
    """
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (len(data) // batch_size)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.15, total_steps=steps)
    model.train().to(memory_format=torch.channels_last)
    bar = tqdm(total=steps, desc="train", disable=not progress, mininterval=5)
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=generator)
        for index in order.split(batch_size):
            if len(index) < batch_size:
                continue
            x = augment(data[index].x, flip, data.pixels.shape[-1] // 8, generator)
            x = x.contiguous(memory_format=torch.channels_last)
            # float32: processors without bfloat16 units imitate it ten times slower
            loss = functional.cross_entropy(model(x), data.y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    bar.close()
    return model.eval().to(memory_format=torch.contiguous_format)


@torch.no_grad()
def accuracy(model: nn.Module, data: Images, batch_size: int = 256) -> float:
    """:return: fraction of ``data`` that ``model`` classifies correctly"""
    batches = (data[slice(i, i + batch_size)] for i in range(0, len(data), batch_size))
    return sum(int((model(part.x).argmax(1) == part.y).sum()) for part in batches) / len(data)


def load_or_train(
    path: Path, model: nn.Module, data: Callable[[], Images], epochs: int, flip: bool
) -> nn.Module:
    """
    :param path: where the weights are, or will be once trained
    :param data: gives the training images, called only to train
    :return: the trained model in evaluation mode
    """
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    train(model, data(), epochs, flip)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(model.state_dict(), partial)
    os.replace(partial, path)
    return model
