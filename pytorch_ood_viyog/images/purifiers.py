"""
Purifiers of images, from well-kept libraries: non-local means and the bilateral filter
(scikit-image), the median (SciPy), JPEG (Pillow).

A strength :math:`\\sigma` is the standard deviation of the residue that is to be taken out, as a
fraction of the images' range, so that all of them can be asked for the same.
"""

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["IMAGE_PURIFIERS", "ImagePurifier", "purified_images"]

Pixels = NDArray[np.float32]

# mean of JPEG's luminance table at quality 50, in grey levels
_JPEG_STEP = 58.0


def _library(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"This purifier needs {package}: pip install 'pytorch-ood-viyog[purify]', or choose "
            f"purifier='maps'."
        ) from error


def _non_local_means(pixels: Pixels, strength: float) -> Pixels:
    restoration = _library("skimage.restoration", "scikit-image")
    # scikit-image drops a last axis of one channel and looks for channels in what is left
    one = pixels.shape[-1] == 1
    filtered: Pixels = restoration.denoise_nl_means(
        pixels[..., 0] if one else pixels,
        patch_size=3,
        patch_distance=5,
        h=strength,
        sigma=strength,
        channel_axis=None if one else -1,
    )
    return filtered.reshape(pixels.shape)


def _bilateral(pixels: Pixels, strength: float) -> Pixels:
    restoration = _library("skimage.restoration", "scikit-image")
    one = pixels.shape[-1] == 1
    filtered: Pixels = restoration.denoise_bilateral(
        pixels[..., 0] if one else pixels,
        win_size=5,
        sigma_color=2 * strength,
        sigma_spatial=1.5,
        channel_axis=None if one else -1,
    )
    return filtered.reshape(pixels.shape)


def _median(pixels: Pixels, strength: float) -> Pixels:
    filtered: Pixels = _library("scipy.ndimage", "SciPy").median_filter(pixels, size=(2, 2, 1))
    return filtered


def jpeg_quality(strength: float) -> int:
    """
    The quality whose mean step of the luminance table is :math:`6 \\sigma`: what is below
    :math:`3 \\sigma` is rounded to zero.

    :param strength: :math:`\\sigma`, as a fraction of the range
    :return: quality between 5 and 95
    """
    scale = 100 * 6 * 255 * strength / _JPEG_STEP  # libjpeg's percentage of the table
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return round(min(max(quality, 5), 95))


def _jpeg(pixels: Pixels, strength: float) -> Pixels:
    image = _library("PIL.Image", "Pillow")
    if pixels.shape[-1] not in (1, 3):
        raise ValueError(
            f"JPEG takes images of 1 or 3 channels, got {pixels.shape[-1]}. Choose another "
            f"purifier, such as 'maps'."
        )
    grey = pixels.shape[-1] == 1
    levels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    stream = io.BytesIO()
    image.fromarray(levels[..., 0] if grey else levels).save(
        stream, "JPEG", quality=jpeg_quality(strength)
    )
    decoded = np.asarray(image.open(stream)).astype(np.float32).reshape(pixels.shape)
    filtered: Pixels = decoded / np.float32(255)
    return filtered


@dataclass(frozen=True)
class ImagePurifier:
    """
    :param purify: one image, :math:`H \\times W \\times C` in [0, 1], and a strength
    :param library: module that it needs
    :param rounds: whether it rounds to 8 bit, so that values outside of the range are lost
    """

    purify: Callable[[Pixels, float], Pixels]
    library: str
    rounds: bool = False


#: purifiers by name
IMAGE_PURIFIERS = {
    "nlm": ImagePurifier(_non_local_means, "skimage"),
    "bilateral": ImagePurifier(_bilateral, "skimage"),
    "median": ImagePurifier(_median, "scipy"),
    "jpeg": ImagePurifier(_jpeg, "PIL", rounds=True),
}


def purified_images(name: str, images: Tensor, strengths: Tensor) -> Tensor:
    """
    :param name: a name of :data:`IMAGE_PURIFIERS`
    :param images: :math:`B \\times C \\times H \\times W`, in [0, 1]; what lies outside is left
        as it is
    :param strengths: :math:`\\sigma` of each image, shape :math:`B`
    :return: purified images, same shape, type and device
    :raises ValueError: if these are no images, or JPEG cannot hold them
    :raises ImportError: if the library of this purifier is not installed
    """
    if images.dim() != 4:
        raise ValueError(
            f"Purifier {name!r} takes images of shape (B, C, H, W), got {tuple(images.shape)}. "
            f"Choose purifier='maps', which takes what the model takes."
        )
    purify = IMAGE_PURIFIERS[name].purify
    inside = images.float().clamp(0, 1)
    pixels = inside.permute(0, 2, 3, 1).cpu().numpy()
    pairs = zip(pixels, strengths.tolist(), strict=True)
    changed = [purify(p, s) - p if s > 0 else np.zeros_like(p) for p, s in pairs]
    if not changed:
        return images
    change = torch.from_numpy(np.stack(changed).astype(np.float32)).permute(0, 3, 1, 2)
    return (images.float() + change.to(images.device)).to(images.dtype)
