"""
Images from disk: a folder of image files, arrays of NumPy or PyTorch, shards, a list of files.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset
from tqdm import tqdm

from .arrays import ImageArray, load_array
from .decoding import UnreadableImageError, read_image
from .folders import list_images
from .shards import SHARDS, is_sharded, load_shards

__all__ = ["ImageFiles", "has_labels", "load_images", "readable_images"]

_ARRAYS = {".npy", ".npz", ".pth", ".pt"}


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Image files, decoded when asked for. Needs Pillow."""

    def __init__(
        self,
        files: Sequence[Any],
        labels: Sequence[int],
        size: int | None,
        has_labels: bool = True,
    ):
        """
        :param files: image files
        :param labels: one label per file
        :param size: see :func:`~pytorch_ood_viyog.images.disk.decoding.read_image`
        :param has_labels: whether the labels are more than stand-ins
        """
        self.files = list(files)
        self.labels = list(labels)
        self.size = size
        self.has_labels = has_labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return read_image(self.files[index], self.size), self.labels[index]


def load_images(
    path: str | Path,
    size: int | None = None,
    limit: int | None = None,
    part: str = "",
    *,
    labelled: bool = True,
) -> Dataset[Any]:
    """
    :param path: a folder, see :func:`~pytorch_ood_viyog.images.disk.folders.list_images`; a
        ``.npy``, ``.npz`` or ``.pth`` file, see
        :func:`~pytorch_ood_viyog.images.disk.arrays.load_array`; ``.parquet`` and ``.tar``
        files or a folder of them, see
        :func:`~pytorch_ood_viyog.images.disk.shards.load_shards`; or a ``.txt`` file with a
        file and its label in each line (OpenOOD's imglist), the files relative to it
    :param size: height and width to bring images to, ``None`` to leave them as they are
    :param limit: at most so many images, drawn at random with a fixed seed
    :param part: ``"train"`` or ``"test"`` to take only this part
    :param labelled: whether sub-folders of a folder are classes; otherwise all images in it count
    :return: images in [0, 1], rounded to 8 bit, and labels (0 where there are none)
    :raises FileNotFoundError: if the path does not exist
    :raises ValueError: if there are no images, the file is damaged or has another format, or no
        such part
    """
    path = Path(path)
    dataset: Dataset[Any]
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist. Give a folder of images or a file of arrays."
        )
    if is_sharded(path):
        dataset = load_shards(path, size, part)
    elif path.is_dir():
        listing = list_images(path, part, labelled)
        if listing.left_out:
            warnings.warn(f"{path}: {listing}.", stacklevel=2)
        dataset = ImageFiles(listing.files, listing.labels, size, bool(listing.classes))
    elif path.suffix in _ARRAYS:
        dataset = load_array(path, size, part)
    elif path.suffix == ".txt":
        dataset = _from_list(path, size)
    else:
        raise ValueError(
            f"{path} must be a folder of images or a file of "
            f"{sorted({*_ARRAYS, *SHARDS, '.txt'})}."
        )
    count = len(dataset)  # type: ignore[arg-type]
    if limit is None or limit >= count:
        return dataset
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return Subset(dataset, order[:limit].tolist())


def readable_images(dataset: Dataset[Any], *, strict: bool = False) -> Dataset[Any]:
    """
    Decode all once, so that no file stops the work later on.

    :param dataset: what :func:`load_images` returns
    :param strict: raise for the first image that cannot be read, instead of leaving it out
    :return: the images that can be read; the others are counted and named in a warning
    :raises UnreadableImageError: with ``strict``
    :raises ValueError: if none can be read, or sizes differ
    """
    held = _held(dataset)
    if isinstance(held, ImageArray) and held.pixels.dtype == np.uint8:
        return dataset  # all can be read
    good, bad = [], []
    shapes: dict[tuple[int, ...], int] = {}
    numbers = range(len(dataset))  # type: ignore[arg-type]
    for number in tqdm(numbers, desc="read", leave=False, disable=None, delay=1):
        try:
            shapes.setdefault(tuple(dataset[number][0].shape[1:]), number)
            good.append(number)
        except UnreadableImageError as error:
            if strict:
                raise
            bad.append(str(error))
    if not good:
        raise ValueError(f"None of {len(bad)} images can be read: {bad[0]}")
    if len(shapes) > 1:
        raise ValueError(f"Images differ in size, {sorted(shapes)[:3]}. Give a size.")
    if not bad:
        return dataset
    warnings.warn(f"{len(bad)} images cannot be read and are left out: {bad}", stacklevel=2)
    return Subset(dataset, good)


def has_labels(dataset: Any) -> bool:
    """:return: whether the labels of a data set are more than zeros that stand for none"""
    return bool(getattr(_held(dataset), "has_labels", True))


def _held(dataset: Any) -> Any:
    """What the images of a part, or of the first of several, are read from."""
    while isinstance(dataset, (Subset, ConcatDataset)):
        dataset = dataset.dataset if isinstance(dataset, Subset) else dataset.datasets[0]
    return dataset


def _from_list(path: Path, size: int | None) -> ImageFiles:
    files, labels = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        file = path.parent / name
        try:
            labels.append(int(label))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} must be FILE LABEL, got {line!r}.") from error
        if not name or not file.is_file():
            raise ValueError(f"{path}, line {number}: {file} does not exist.")
        files.append(file)
    if not files:
        raise ValueError(f"{path} names no images.")
    return ImageFiles(files, labels, size)
