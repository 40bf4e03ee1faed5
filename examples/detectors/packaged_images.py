"""Photographs and other images that ship inside installed packages: nothing is downloaded."""

from importlib.resources import as_file, files

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pytorch_ood_viyog.images.disk.decoding import as_rgb

__all__ = ["OTHERS", "PHOTOGRAPHS", "crops", "halves", "read"]

_SKIMAGE, _SKLEARN = "skimage.data", "sklearn.datasets.images"

#: photographs, by name: the package and the file
PHOTOGRAPHS = {
    "astronaut": (_SKIMAGE, "astronaut.png"),
    "coffee": (_SKIMAGE, "coffee.png"),
    "cat": (_SKIMAGE, "chelsea.png"),
    "rocket": (_SKIMAGE, "rocket.jpg"),
    "motorcycle": (_SKIMAGE, "motorcycle_left.png"),
    "temple": (_SKLEARN, "china.jpg"),
    "flower": (_SKLEARN, "flower.jpg"),
    "officer": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
#: what a classifier of photographs was not made for
OTHERS = {
    "histology": (_SKIMAGE, "ihc.png"),
    "retina": (_SKIMAGE, "retina.jpg"),
    "deep field": (_SKIMAGE, "hubble_deep_field.jpg"),
    "moon": (_SKIMAGE, "moon.png"),
    "page": (_SKIMAGE, "page.png"),
    "text": (_SKIMAGE, "text.png"),
    "brick": (_SKIMAGE, "brick.png"),
    "grass": (_SKIMAGE, "grass.png"),
    "gravel": (_SKIMAGE, "gravel.png"),
    "coins": (_SKIMAGE, "coins.png"),
}
_SIZE = 224
_LARGEST = 512


def read(package: str, file: str) -> Tensor:
    """
    :return: the image (3, H, W) in [0, 1], its shorter side at most 512 pixels; mirrored at its
        edges where it is too small for a crop
    """
    with as_file(files(package) / file) as path, Image.open(path) as image:
        scale = min(1.0, _LARGEST / min(image.size))
        size = [round(scale * side) for side in image.size]
        pixels = np.asarray(as_rgb(image).resize(size, Image.Resampling.LANCZOS))
    missing = [max(0, _SIZE - side) for side in pixels.shape[:2]]
    pixels = np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def halves(image: Tensor) -> tuple[Tensor, Tensor]:
    """:return: left and right half of an image, upper and lower half of a tall one"""
    axis = 2 if image.shape[2] >= image.shape[1] else 1
    first, second = image.tensor_split(2, dim=axis)
    return first, second


def crops(image: Tensor, rows: int, columns: int) -> Tensor:
    """:return: (rows · columns, 3, 224, 224), evenly spread over the image, overlapping"""
    tops = _places(image.shape[1], rows)
    lefts = _places(image.shape[2], columns)
    return torch.stack(
        [image[:, top : top + _SIZE, left : left + _SIZE] for top in tops for left in lefts]
    )


def _places(side: int, count: int) -> list[int]:
    """:return: where crops begin; one crop lies in the middle"""
    return [round((i + 0.5) / count * (side - _SIZE)) for i in range(count)]
