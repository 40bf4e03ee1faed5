"""Data and model of the examples: handwritten digits on photographs, made without a download."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog.benchmark.attacks.craft import round_to_8_bit

_SIZE, _DIGIT = 32, 24


@dataclass(frozen=True)
class Images:
    """
    scikit-learn's digits on crops of its two photographs, (N, 3, 32, 32) in [0, 1] with labels,
    in parts that share no digit, and other images.

    :param train: for the classifier and the detectors
    :param calibration: for thresholds
    :param test: to be judged, or attacked
    :param ood: crops of another photograph, without a digit
    """

    train: TensorDataset
    calibration: TensorDataset
    test: TensorDataset
    ood: Tensor


def make_images(repeats: int = 3) -> Images:
    """
    :param repeats: how often each training digit is drawn, on another background
    :return: the images, the same in every run
    """
    generator = torch.Generator().manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=generator)
    x = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)[order]
    y = torch.tensor(labels)[order]
    photographs = [_reduce(photograph) for photograph in load_sample_images().images]

    def part(first: int, last: int, times: int = 1) -> TensorDataset:
        digits, names = x[first:last].repeat(times, 1, 1, 1), y[first:last].repeat(times)
        return TensorDataset(_compose(digits, photographs, generator), names)

    with get_sample_data("grace_hopper.jpg") as file:
        other = _reduce(np.asarray(Image.open(file)))
    return Images(
        train=part(0, 1000, repeats),
        calibration=part(1000, 1400),
        test=part(1400, 1797),
        ood=round_to_8_bit(_crops([other], 300, generator)),
    )


def _reduce(photograph: np.ndarray) -> Tensor:
    """Block means over 3×3 pixels, which take the JPEG error out."""
    pixels = torch.tensor(photograph / 255, dtype=torch.float32).permute(2, 0, 1)
    return functional.avg_pool2d(pixels, 3)


def _crops(photographs: list[Tensor], count: int, generator: torch.Generator) -> Tensor:
    crops = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        row, column = (_draw(length - _SIZE, generator) for length in photograph.shape[1:])
        crops.append(photograph[:, row : row + _SIZE, column : column + _SIZE])
    return torch.stack(crops)


def _compose(digits: Tensor, photographs: list[Tensor], generator: torch.Generator) -> Tensor:
    """Digits at random places, dark on bright backgrounds and in a bright colour on dark ones."""
    large = functional.interpolate(digits, size=(_DIGIT, _DIGIT), mode="bilinear")
    mask = torch.zeros(len(digits), 1, _SIZE, _SIZE)
    for canvas, digit in zip(mask, large, strict=True):
        row, column = (_draw(_SIZE - _DIGIT, generator) for _ in range(2))
        canvas[:, row : row + _DIGIT, column : column + _DIGIT] = digit
    background = _crops(photographs, len(digits), generator)
    dark = background.mean(dim=(2, 3), keepdim=True) < 0.5
    bright = 0.4 + 0.6 * torch.rand(len(digits), 3, 1, 1, generator=generator)
    return round_to_8_bit(background * (1 - mask) + dark * bright * mask)


def _draw(most: int, generator: torch.Generator) -> int:
    return int(torch.randint(most + 1, (1,), generator=generator))


class Net(nn.Module):
    """Three convolutions and two linear layers, images (B, 3, 32, 32) -> logits (B, 10)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """:param x: images (B, 3, 32, 32)"""
        return self.head(self.features(x))


def train(model: nn.Module, data: TensorDataset, epochs: int) -> nn.Module:
    """:return: the model, trained with one learning-rate cycle, in evaluation mode"""
    loader = DataLoader(data, batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=epochs * len(loader)
    )
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()
