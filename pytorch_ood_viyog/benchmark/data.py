"""
Images of the benchmark as data sets: rounded to 8 bit, relabelled, kept small in memory.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from ..images.disk.files import has_labels
from ..layer.manners import same_random_state
from .attacks.images import class_number, round_to_8_bit

__all__ = ["EightBit", "Stored", "as_dataset", "first_images"]

Sample = tuple[Tensor, int]


class EightBit(Dataset[Sample]):
    """
    Samples of another data set, their images rounded to 8 bit, as the adversarial ones are:
    otherwise a detector could tell the two by the rounding.
    """

    def __init__(
        self, name: str, dataset: Dataset[Any], *, label: int | None = None, rounded: bool = True
    ):
        """
        :param name: name of the data set, for messages
        :param dataset: yields images in [0, 1], or images and labels
        :param label: of all of them; ``None`` for its own, which are 0 where it has none
        :param rounded: whether the images are rounded
        """
        self.name = name
        self.dataset = dataset
        self.label = label
        self.rounded = rounded

    @property
    def has_labels(self) -> bool:
        """Whether the data set comes with labels, of which zeros for none are none."""
        item = self.dataset[0]
        return isinstance(item, (tuple, list)) and len(item) > 1 and has_labels(self.dataset)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample:
        item = self.dataset[index]
        image, label = item[:2] if isinstance(item, (tuple, list)) and len(item) > 1 else (item, 0)
        image = image[0] if isinstance(image, (tuple, list)) else image
        if not isinstance(image, Tensor) or not image.is_floating_point():
            got = image.dtype if isinstance(image, Tensor) else type(image).__name__
            raise TypeError(
                f"Data set {self.name!r} must yield images as float tensors in [0, 1], got {got}. "
                f"Convert them, for example by torchvision.transforms.ToTensor()."
            )
        low, high = (float(end) for end in image.aminmax())
        if not (low >= 0 and high <= 1):  # NaN neither
            raise ValueError(
                f"Data set {self.name!r} must yield images in [0, 1], got values from "
                f"{low:g} to {high:g}. Put the normalisation into "
                f"the model, as attacks and rounding work on pixels."
            )
        whose = f"Image {index} of data set {self.name!r}"
        number = class_number(label, whose) if self.label is None else self.label
        return round_to_8_bit(image) if self.rounded else image, number


class Stored(Dataset[Sample]):
    """8-bit images kept as bytes, a quarter of the memory."""

    def __init__(self, images: Tensor, labels: Tensor):
        """Images are (N, ...), multiples of 1/255 in [0, 1]."""
        self.pixels = (images * 255).round().to(torch.uint8)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return self.pixels[index].float() / 255, int(self.labels[index])


def as_dataset(name: str, data: Any) -> Dataset[Any]:
    """
    :param name: name of the argument, for messages
    :param data: a data set, a tensor of images, or a tuple of images and labels
    :return: a data set
    :raises TypeError: if it is none of these
    :raises ValueError: if it is empty
    """
    if isinstance(data, Tensor):
        data = TensorDataset(data)
    elif isinstance(data, (tuple, list)) and data and all(isinstance(d, Tensor) for d in data):
        data = TensorDataset(*data)
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")) or isinstance(data, dict):
        raise TypeError(
            f"{name} must be a data set with a length, a tensor of images or a tuple of images "
            f"and labels, got {type(data).__name__}."
        )
    if len(data) == 0:
        raise ValueError(f"{name} is empty.")
    dataset: Dataset[Any] = data
    return dataset


def first_images(dataset: Dataset[Sample], count: int | None) -> tuple[Tensor, Tensor]:
    """:return: so many images (N, ...) and labels (N,) of a data set, ``None`` for all"""
    length = len(dataset)  # type: ignore[arg-type]
    part = Subset(dataset, range(length if count is None else min(count, length)))
    with same_random_state():  # a loader draws a seed
        batches: list[tuple[Tensor, Tensor]] = list(DataLoader(part, batch_size=100))
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)
