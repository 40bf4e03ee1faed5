"""
Lossy compression, through Pillow, which is imported when it is used.
"""

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .pixels import check_images

__all__ = ["available", "jpeg", "webp"]


def available(form: str) -> bool:
    """
    :param form: name of a format
    :return: whether Pillow is installed and writes it
    """
    try:
        _pillow(form.upper())
    except ImportError:
        return False
    return True


def jpeg(x: Tensor, quality: float) -> Tensor:
    """
    Compressed as JPEG with Pillow's default chroma subsampling (4:2:0) and read again.

    :param x: images in [0, 1], :math:`B \\times 3 \\times H \\times W`, or grey with one channel
    :param quality: 1 (worst) to 95 (best)
    :return: images as read from the file
    :raises ValueError: if images are outside [0, 1] or have other channels
    :raises ImportError: if Pillow is not installed
    """
    return _through_file(x, "JPEG", quality)


def webp(x: Tensor, quality: float) -> Tensor:
    """
    Compressed as lossy WebP and read again.

    :param x: images in [0, 1], :math:`B \\times 3 \\times H \\times W`, or grey with one channel
    :param quality: 1 (worst) to 100 (best)
    :return: images as read from the file
    :raises ValueError: if images are outside [0, 1] or have other channels
    :raises ImportError: if Pillow is not installed, or was built without WebP
    """
    return _through_file(x, "WEBP", quality)


def _through_file(x: Tensor, form: str, quality: float) -> Tensor:
    image = _pillow(form)
    check_images(x, (1, 3))
    pixels = (x.detach().cpu() * 255).round().byte().permute(0, 2, 3, 1).numpy()
    mode = "L" if x.shape[1] == 1 else "RGB"
    read = []
    for array in pixels:
        file = io.BytesIO()
        image.fromarray(array.squeeze(2) if mode == "L" else array).save(
            file, form, quality=round(quality)
        )
        read.append(np.asarray(image.open(file).convert(mode)).reshape(array.shape))
    if not read:
        return x
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).to(x) / 255


def _pillow(form: str) -> Any:
    try:
        from PIL import Image, features
    except ImportError as error:
        raise ImportError(f"{form} compression needs Pillow: pip install pillow") from error
    if form == "WEBP" and not features.check("webp"):
        raise ImportError("This Pillow was built without WebP.")
    return Image
