"""
Images from disk for the command line: a folder of image files, or a NumPy ``.npz`` file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

__all__ = ["ImageFiles", "load_images"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
_PARTS = {"train": 0, "test": 1}


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Image files, decoded when asked for. Needs Pillow."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], size: int | None):
        """
        :param files: image files
        :param labels: one label per file
        :param size: the shorter side is resized to it and the middle square cut out; ``None``
            takes images as they are
        """
        self.files = list(files)
        self.labels = list(labels)
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        with Image.open(self.files[index]) as image:
            return _as_tensor(_resized(image.convert("RGB"), self.size)), self.labels[index]


def load_images(
    path: str | Path, size: int | None = None, limit: int | None = None, part: str = ""
) -> Dataset[Any]:
    """
    :param path: a folder or an ``.npz`` file. In a folder the sub-folders are the classes, in
        alphabetical order, or by number where all their names are numbers. An ``.npz`` file has
        ``images``, uint8 of shape (N, H, W, 3) or (N, H, W), and may have ``labels`` and
        ``split`` (0 for training, 1 for test).
    :param size: height and width to bring images to, ``None`` to leave them as they are
    :param limit: at most so many images, drawn at random with a fixed seed
    :param part: ``"train"`` or ``"test"`` to take only this part of an ``.npz`` file
    :return: images in [0, 1], rounded to 8 bit, and labels (0 where there are none)
    :raises FileNotFoundError: if the path does not exist
    :raises ValueError: if there are no images, the file has another format, or no ``split``
        though a part is asked for
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Give a folder of images or an .npz file.")
    if path.is_dir():
        dataset: Dataset[Any] = _from_folder(path, size)
    elif path.suffix == ".npz":
        dataset = _from_npz(path, size, part)
    else:
        raise ValueError(f"{path} must be a folder of images or an .npz file.")
    count = len(dataset)  # type: ignore[arg-type]
    if limit is None or limit >= count:
        return dataset
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return Subset(dataset, order[:limit].tolist())


def _from_folder(path: Path, size: int | None) -> ImageFiles:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise ValueError(f"{path} holds no images ({', '.join(sorted(_SUFFIXES))}).")
    classes = [file.relative_to(path).parts[0] for file in files]
    names = sorted(set(classes))
    if all(name.isdigit() for name in names):
        return ImageFiles(files, [int(name) for name in classes], size)
    number = {name: i for i, name in enumerate(names)}
    return ImageFiles(files, [number[name] for name in classes], size)


def _from_npz(path: Path, size: int | None, part: str) -> TensorDataset:
    with np.load(path) as content:
        images, labels, split = (content.get(name) for name in ("images", "labels", "split"))
    if images is None or images.dtype != np.uint8:
        raise ValueError(f"{path} must hold a uint8 array named 'images'.")
    labels = np.zeros(len(images), np.int64) if labels is None else labels
    if images.ndim == 3:
        images = images[..., None].repeat(3, axis=3)
    if images.ndim != 4 or images.shape[3] != 3 or len(labels) != len(images):
        raise ValueError(
            f"{path} must hold images of shape (N, H, W, 3) or (N, H, W) and N labels, got "
            f"{images.shape} and {labels.shape}."
        )
    if part:
        if split is None:
            raise ValueError(
                f"{path} has no 'split' to take the {part} images by. Give training and test "
                f"images as two paths."
            )
        chosen = split == _PARTS[part]
        images, labels = images[chosen], labels[chosen]
    if len(images) == 0:
        raise ValueError(f"{path} holds no images{f' of the {part} split' if part else ''}.")
    if size is not None and images.shape[1:3] != (size, size):
        from PIL import Image

        images = np.stack([np.asarray(_resized(Image.fromarray(i), size)) for i in images])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return TensorDataset(pixels, torch.from_numpy(labels.astype(np.int64)))


def _resized(image: Any, size: int | None) -> Any:
    if size is None:
        return image
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), resample=2)  # bilinear, as torchvision's default
    return resized.crop((left, top, left + size, top + size))


def _as_tensor(image: Any) -> Tensor:
    pixels = torch.from_numpy(np.asarray(image).copy())
    return pixels.permute(2, 0, 1).float() / 255
