"""
Purifiers of images: the bilateral filter and the median, as tensor code; JPEG (Pillow) and
non-local means (scikit-image), one image after the other.

A strength :math:`\\sigma` is the standard deviation of the residue that is to be taken out, as a
fraction of the images' range, so that all of them can be asked for the same.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import codecs
from .views import bilateral, median_of_four

__all__ = ["IMAGE_PURIFIERS", "ImagePurifier", "purified_images"]

# mean of JPEG's luminance table at quality 50, in grey levels
_JPEG_STEP = 58.0
# values of images that are filtered at once: more do not stay in a processor's memory
_AT_ONCE = 2**18


def _library(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"This purifier needs {package}: pip install 'pytorch-ood-viyog[purify]', or choose "
            f"purifier='bilateral'."
        ) from error


def _non_local_means(images: Tensor, strengths: Tensor) -> Tensor:
    restoration = _library("skimage.restoration", "scikit-image")
    # scikit-image drops a last axis of one channel and looks for channels in what is left
    one = images.shape[1] == 1
    pixels = (images[:, 0] if one else images.permute(0, 2, 3, 1)).cpu().numpy()
    filtered = [
        torch.from_numpy(
            restoration.denoise_nl_means(
                image,
                patch_size=3,
                patch_distance=5,
                h=strength,
                sigma=strength,
                channel_axis=None if one else -1,
            )
        )
        for image, strength in zip(pixels, strengths.tolist(), strict=True)
    ]
    changed = torch.stack(filtered).to(images)
    return changed[:, None] if one else changed.permute(0, 3, 1, 2)


def _bilateral(images: Tensor, strengths: Tensor) -> Tensor:
    return bilateral(images, 2 * strengths / images.shape[1] ** 0.5)


def _median(images: Tensor, strengths: Tensor) -> Tensor:
    return median_of_four(images)


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


def _jpeg(images: Tensor, strengths: Tensor) -> Tensor:
    _library("PIL.Image", "Pillow")
    if images.shape[1] not in (1, 3):
        raise ValueError(
            f"JPEG takes images of 1 or 3 channels, got {images.shape[1]}. Choose another "
            f"purifier, such as 'maps'."
        )
    parts = zip(torch.split(images, 1), strengths.tolist(), strict=True)
    return torch.cat([codecs.jpeg(image, jpeg_quality(strength)) for image, strength in parts])


@dataclass(frozen=True)
class ImagePurifier:
    """A function of images in [0, 1] and their strengths, and the module that it needs, if any."""

    purify: Callable[[Tensor, Tensor], Tensor]
    library: str | None = None
    #: whether it rounds to 8 bit, so that values outside of the range are lost
    rounds: bool = False


#: purifiers by name
IMAGE_PURIFIERS = {
    "nlm": ImagePurifier(_non_local_means, "skimage"),
    "bilateral": ImagePurifier(_bilateral),
    "median": ImagePurifier(_median),
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
    if len(images) == 0:
        return images
    purifier = IMAGE_PURIFIERS[name]
    sigma = strengths.to(images.device, torch.float32)
    count = max(1, _AT_ONCE // max(1, images[:1].numel()))
    changed = []
    for part, own in zip(torch.split(images, count), torch.split(sigma, count), strict=True):
        inside = part.float().clamp(0, 1)
        if purifier.library is not None:
            # what other libraries change has no gradient: that of the image passes through
            inside = torch.from_numpy(inside.cpu().numpy()).to(inside.device)
        change = purifier.purify(inside, own.clamp_min(1e-6)) - inside
        change = torch.where(own.view(-1, 1, 1, 1) > 0, change, 0.0)
        changed.append((part.float() + change).to(images.dtype))
    return torch.cat(changed)
