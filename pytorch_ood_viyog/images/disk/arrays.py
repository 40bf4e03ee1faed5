"""
Images in arrays of NumPy and PyTorch: ``.npy``, ``.npz`` and ``.pth``, of any layout, left on
disk. Nothing is ever unpickled.
"""

import shutil
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from .decoding import UnreadableImageError, resized

__all__ = ["ImageArray", "load_array"]

_PARTS = {"train": 0, "test": 1}
# of our own files and ART, Keras, MedMNIST
_IMAGES = ("images", "x", "data", "x_{part}", "{part}_images")
_LABELS = ("labels", "y", "label", "y_{part}", "{part}_labels")
# of the header before each entry of a zip file: lengths of its name and of what is added to it
_LENGTHS_AT, _HEADER = 26, 30


class ImageArray(Dataset[tuple[Tensor, int]]):
    """Images of an array, which may lie on disk; one is converted when it is asked for."""

    def __init__(self, pixels: Any, labels: Any, size: int | None, name: str):
        """
        :param pixels: shape (N, H, W), (N, H, W, C) or (N, C, H, W) with one or three channels;
            uint8, or float in [0, 1]
        :param labels: shape (N,) or (N, 1), or ``None`` for zeros
        :param size: height and width to bring images to, ``None`` to leave them
        :param name: the file, for messages
        :raises ValueError: if shapes or types are others
        """
        channels = [a for a in (1, 3) if pixels.ndim == 4 and pixels.shape[a] in (1, 3)]
        if (pixels.ndim != 3 and len(channels) != 1) or 0 in pixels.shape:
            raise ValueError(
                f"{name} must hold images of shape (N, H, W, 3), (N, 3, H, W) or (N, H, W), got "
                f"{pixels.shape}."
            )
        if pixels.dtype != np.uint8 and pixels.dtype.kind != "f":
            raise ValueError(f"{name} must hold uint8, or floats in [0, 1], got {pixels.dtype}.")
        count = len(pixels)
        self.has_labels = labels is not None
        labels = np.zeros(count, np.int64) if labels is None else np.asarray(labels)
        if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{name} has {count} images and needs as many whole numbers as labels, got "
                f"{labels.dtype} of shape {labels.shape}."
            )
        self.pixels, self.labels = pixels, labels.reshape(-1).astype(np.int64)
        self.first = channels == [1]
        self.size, self.name = size, name

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = np.array(self.pixels[index])
        if image.dtype != np.uint8:
            if not (image.min() >= 0 and image.max() <= 1):
                raise UnreadableImageError(
                    f"{self.name}, image {index}: floats must be in [0, 1], got {image.min():g} "
                    f"to {image.max():g}."
                )
            image = (image * 255).round().astype(np.uint8)
        image = image[..., None] if image.ndim == 2 else image
        image = image.transpose(1, 2, 0) if self.first else image
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        if self.size is not None and image.shape[:2] != (self.size, self.size):
            from PIL import Image

            image = np.array(resized(Image.fromarray(image), self.size))
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return pixels.float() / 255, int(self.labels[index])


def load_array(path: Path, size: int | None = None, part: str = "") -> Dataset[Any]:
    """
    Images stay on disk. The labels of a ``.npy`` file are those of ``labels.npy`` beside it
    (CIFAR-10-C).
    In an ``.npz`` file images and labels are called ``images`` and ``labels``, ``x`` and ``y``,
    ``x_test`` and ``y_test`` (Keras, ART), or ``test_images`` and ``test_labels`` (MedMNIST);
    ``split`` has 0 for training, 1 for test. A ``.pth`` or ``.pt`` file holds a tensor, or
    images and labels (AutoAttack).

    :param path: the file
    :param size: height and width to bring images to, ``None`` to leave them
    :param part: ``"train"`` or ``"test"`` to take only this part
    :return: images in [0, 1], rounded to 8 bit, and labels
    :raises ValueError: if the file is damaged, has another layout, or no such part
    """
    try:
        content = _content(path, part)
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    images, labels = content["images"], content["labels"]
    if images is None:
        raise ValueError(f"{path} must hold an array named 'images', got {content['names']}.")
    data = ImageArray(images, labels, size, str(path))
    if not part or content["parted"]:
        return data
    if content["split"] is None:
        raise ValueError(
            f"{path} has no 'split' to take the {part} images by. Give training and test images "
            f"as two paths."
        )
    chosen = np.flatnonzero(content["split"] == _PARTS[part])
    if len(chosen) == 0:
        raise ValueError(f"{path} holds no images of the {part} split.")
    return Subset(data, chosen.tolist())


def _content(path: Path, part: str) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(("images", "labels", "split"))
    found |= {"parted": False, "names": []}
    if path.suffix == ".npy":
        beside = path.with_name("labels.npy")
        found["images"] = np.load(path, mmap_mode="r", allow_pickle=False)
        if beside.is_file() and beside != path:
            found["labels"] = np.load(beside, allow_pickle=False)
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path) as file:
            entries = {info.filename: info for info in file.infolist()}
        found["names"] = sorted(n.removesuffix(".npy") for n in entries if n.endswith(".npy"))
        named = _named(found["names"], part)
        found |= {key: _zipped(path, name, entries[f"{name}.npy"]) for key, name in named.items()}
        found["parted"] = "images" in named and (part or "test") in named["images"]
    else:
        # what torch.save wrote before 1.6 is no zip file and cannot be left on disk
        lazy = zipfile.is_zipfile(path)
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=lazy)
        held = list(held.values()) if isinstance(held, dict) else held
        x, y = (held, None) if isinstance(held, Tensor) else (held[0], held[1])
        found |= {"images": x.numpy(), "labels": None if y is None else y.numpy()}
    return found


def _named(names: list[str], part: str) -> dict[str, str]:
    found = {"split": "split"} if "split" in names else {}
    wanted = part or "test"
    for key, known in (("images", _IMAGES), ("labels", _LABELS)):
        for name in known:
            if name.format(part=wanted) in names:
                found[key] = name.format(part=wanted)
                break
    return found


def _zipped(path: Path, name: str, info: zipfile.ZipInfo) -> Any:
    """
    An array of ``numpy.savez`` is mapped where it lies in the file; one of
    ``numpy.savez_compressed`` is unpacked into a temporary file, which goes with the array.
    """
    try:
        with path.open("rb") as file:
            if info.compress_type == zipfile.ZIP_STORED:
                file.seek(info.header_offset + _LENGTHS_AT)
                more = sum(struct.unpack("<HH", file.read(4)))
                file.seek(info.header_offset + _HEADER + more)
                return _mapped(file)
        with zipfile.ZipFile(path) as packed, tempfile.TemporaryFile() as unpacked:
            with packed.open(info) as entry:
                shutil.copyfileobj(entry, unpacked)
            unpacked.seek(0)
            return _mapped(unpacked)
    except Exception as error:  # zlib, struct and NumPy raise all kinds
        raise ValueError(f"array {name!r}: {type(error).__name__}: {error}") from error


def _mapped(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not unpickled")
    if 0 in shape:
        return np.zeros(shape, dtype)
    order: Literal["C", "F"] = "F" if fortran else "C"
    # the mapping holds the file open
    return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape, order=order)
