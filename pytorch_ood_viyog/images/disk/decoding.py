"""
One home for decoding: encoded images of any layout as 8-bit RGB in [0, 1]. Needs Pillow.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["UnreadableImageError", "as_rgb", "read_image", "resized"]

_SIXTEEN_BIT = 65535


class UnreadableImageError(ValueError):
    """An image cannot be decoded, or not without guessing; the message names it."""


def read_image(source: str | Path | BytesIO, size: int | None = None, name: str = "") -> Tensor:
    """
    Orientation of EXIF is applied. 16-bit greys are scaled by :math:`1/65535`, floats must be in
    [0, 1], transparent pixels are laid on white, palettes, CMYK and grey become RGB, and of an
    animation the first frame is taken.

    :param source: file, or encoded bytes
    :param size: the shorter side is resized to it and the middle square cut out; ``None`` takes
        the image as it is
    :param name: what to call it in messages, by default the file
    :return: shape (3, H, W), multiples of 1/255 in [0, 1]
    :raises UnreadableImageError: if it cannot be decoded, or its values have no known range
    :raises ImportError: if Pillow is not installed
    """
    from PIL import Image

    try:
        with Image.open(source) as image:
            pixels = np.asarray(resized(as_rgb(image), size)).copy()
    except Exception as error:  # decoders raise all kinds
        told = name or (str(source) if isinstance(source, (str, Path)) else "image")
        raise UnreadableImageError(f"{told}: {type(error).__name__}: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def as_rgb(image: Any) -> Any:
    """:return: an image of Pillow in 8-bit RGB, by the rules of :func:`read_image`"""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bit(np.asarray(image), image.mode)).convert("RGB")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bit(values: np.ndarray, mode: str) -> np.ndarray:
    """Pillow clips such values to 255 without a word."""
    top, kind = (1, "float") if mode == "F" else (_SIXTEEN_BIT, "integer")
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):
        raise ValueError(
            f"{kind} values from {low:g} to {high:g}, must be from 0 to {top}. "
            f"Scale and save them as 8 bit"
        )
    scaled: np.ndarray = (values.astype(np.float64) * 255 / top).round().astype(np.uint8)
    return scaled


def resized(image: Any, size: int | None) -> Any:
    """:return: the middle square of an image of Pillow, see :func:`read_image`"""
    if size is None:
        return image
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    larger = image.resize((width, height), resample=2)  # bilinear, as torchvision's default
    return larger.crop((left, top, left + size, top + size))
