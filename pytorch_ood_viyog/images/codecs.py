"""
Lossy compression, through Pillow, which is imported when it is used: images in [0, 1],
:math:`B \\times C \\times H \\times W` with one channel or three, and as they are read again.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .pixels import check_images

__all__ = ["SUBSAMPLINGS", "available", "avif", "jpeg", "pillow", "through_pillow", "webp"]

#: chroma subsamplings of JPEG and AVIF
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


def available(form: str) -> bool:
    """:return: whether Pillow is installed and writes a format"""
    try:
        pillow(form.upper())
    except ImportError:
        return False
    return True


def jpeg(x: Tensor, quality: float, subsampling: str = "4:2:0") -> Tensor:
    """JPEG of a quality from 1 (worst) to 95 (best)."""
    return _through_file(x, "JPEG", quality=round(quality), subsampling=subsampling)


def webp(x: Tensor, quality: float) -> Tensor:
    """Lossy WebP of a quality from 1 (worst) to 100 (best)."""
    return _through_file(x, "WEBP", quality=round(quality))


def avif(x: Tensor, quality: float, subsampling: str = "4:2:0") -> Tensor:
    """AVIF of a quality from 1 (worst) to 100 (best)."""
    return _through_file(x, "AVIF", quality=round(quality), subsampling=subsampling)


def through_pillow(x: Tensor, change: Callable[[Any, Any], Any]) -> Tensor:
    """
    :param x: images in [0, 1], :math:`B \\times 3 \\times H \\times W`, or grey with one channel
    :param change: gives another Pillow image for Pillow's ``Image`` module and an image
    :return: what it gives for each of them, in the mode that the image had
    :raises ValueError: if images are outside [0, 1] or have other channels
    :raises ImportError: if Pillow is not installed
    """
    image = pillow()
    mode = "L" if check_images(x, (1, 3)).shape[1] == 1 else "RGB"

    def changed(array: Any) -> Any:
        before = image.fromarray(array.squeeze(2) if mode == "L" else array)
        return np.asarray(change(image, before).convert(mode))

    return each_array(x, changed)


def each_array(x: Tensor, change: Callable[[Any], Any]) -> Tensor:
    """:return: what is made of the 8-bit array (H, W, C) of each image, as images in [0, 1]"""
    pixels = (x.detach().cpu() * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    arrays = [np.asarray(change(array)) for array in pixels]
    if not arrays:
        return x
    made = np.stack([array.reshape(*array.shape[:2], x.shape[1]) for array in arrays])
    return torch.from_numpy(made).permute(0, 3, 1, 2).to(x) / 255


def _through_file(x: Tensor, form: str, **options: Any) -> Tensor:
    pillow(form)

    def saved(image: Any, before: Any) -> Any:
        file = io.BytesIO()
        before.save(file, form, **options)
        return image.open(file)

    return through_pillow(x, saved)


def pillow(form: str = "") -> Any:
    """
    :param form: format that it has to write, in capitals; any Pillow will do, if empty
    :return: its module ``Image``
    :raises ImportError: if Pillow is not installed, or was built without the format
    """
    try:
        from PIL import Image, features
    except ImportError as error:
        what = f"{form} compression" if form else "This change"
        raise ImportError(f"{what} needs Pillow: pip install pillow") from error
    if form in ("WEBP", "AVIF") and not features.check(form.lower()):
        name = {"WEBP": "WebP"}.get(form, form)
        raise ImportError(f"This Pillow was built without {name}.")
    return Image
