"""
A classifier with no training but real classes, and its data: for the contract on other people's
detectors.
"""

import torch
from torch import Tensor, nn

CLASSES = 4
PER_CLASS = 12
SIZE = 8


def class_images() -> tuple[Tensor, Tensor]:
    """Images and labels; a class is a pattern of its own, samples of it differ by noise."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.rand(CLASSES, 3, 2, 2, generator=generator)
    patterns = nn.functional.interpolate(patterns, SIZE, mode="nearest")
    labels = torch.arange(CLASSES * PER_CLASS) % CLASSES
    noise = torch.randn(len(labels), 3, SIZE, SIZE, generator=generator)
    return patterns[labels] + 0.1 * noise, labels


def class_batches(batches: int = 2) -> list[tuple[Tensor, Tensor]]:
    """The same as a loader; each batch holds all classes."""
    images, labels = class_images()
    return list(zip(images.chunk(batches), labels.chunk(batches), strict=True))


def gray(x: Tensor) -> Tensor:
    """Noise around gray, with no pattern of any class."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    return 0.5 + 0.1 * noise


class Classifier(nn.Module):
    """Two convolutions and a linear layer, whose rows are the mean features of the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 10, 3, stride=2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(10, CLASSES)

    def feature_maps(self, x: Tensor) -> Tensor:
        return self.body(self.stem(x))

    def forward_feature_maps(self, maps: Tensor) -> Tensor:
        return self.fc(self.dropout(self.pool(maps).flatten(1)))

    def features(self, x: Tensor) -> Tensor:
        return self.pool(self.feature_maps(x)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_feature_maps(self.feature_maps(x))


class Segmenter(nn.Module):
    """Logits for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))


def classifier(images: Tensor | None = None, labels: Tensor | None = None) -> Classifier:
    """The classifier in evaluation mode, right on these images; default: ``class_images``."""
    if images is None or labels is None:
        images, labels = class_images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier().eval()
    with torch.no_grad():
        features = model.features(images)
        means = torch.stack([features[labels == k].mean(dim=0) for k in range(CLASSES)])
        scale = 8 / (means - means.mean(dim=0)).pow(2).sum(dim=1).mean()
        model.fc.weight.copy_(scale * means)
        model.fc.bias.copy_(-0.5 * scale * means.pow(2).sum(dim=1))
    return model


def segmenter() -> Segmenter:
    """The segmentation model in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Segmenter().eval()
