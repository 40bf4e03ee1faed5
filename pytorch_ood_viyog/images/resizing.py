"""
What pipelines do to the size and the colours of images, by the libraries that do it there: images
in [0, 1], :math:`B \\times C \\times H \\times W`, of the same size after it.
"""

import importlib
from typing import Any

import torch
from torch import Tensor

from .codecs import each_array, pillow, through_pillow
from .pixels import check_images

__all__ = ["FILTERS", "check_filter", "grey", "letterbox", "library", "palette", "resize"]

#: library -> its filters; ``torchvision`` resizes 8-bit tensors with antialiasing,
#: ``torchvision-float`` floats, which are not rounded, ``torchvision-aliased`` 8-bit tensors
#: without antialiasing
FILTERS = {
    "pillow": ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
    "opencv": ("nearest", "linear", "cubic", "area", "lanczos4"),
    "torchvision": ("bilinear", "bicubic"),
    "torchvision-float": ("bilinear", "bicubic"),
    "torchvision-aliased": ("bilinear", "bicubic"),
}
_MODULES = {"pillow": "PIL", "opencv": "cv2"}


def library(name: str) -> Any:
    """:return: the module of one of :data:`FILTERS`"""
    module = _MODULES.get(name, "torchvision.transforms.v2.functional")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"A resizer of {name} needs its library: pip install 'pytorch-ood-viyog[ways]'"
        ) from error


def check_filter(kind: str = "bilinear", by: str = "pillow") -> None:
    """Refuses a filter that the library does not have."""
    if kind not in FILTERS[by]:
        raise ValueError(f"{by} resizes by {', '.join(FILTERS[by])}, got {kind!r}.")


def resize(x: Tensor, factor: float, kind: str = "bilinear", by: str = "pillow") -> Tensor:
    """
    To so many times the height and width and back.

    :param x: images
    :param factor: height and width in between, as share of those of ``x``
    :param kind: filter
    :param by: library, one of :data:`FILTERS`
    :return: images of the old size
    :raises ValueError: if images are outside [0, 1]
    :raises ImportError: if the library is not installed
    """
    size = check_images(x).shape[2:]
    sizes = [torch.Size(max(1, round(side * factor)) for side in size), size]
    if by == "pillow":
        return _resized_by_pillow(x, sizes, kind)
    functional = library(by)
    if by == "opencv":
        code = getattr(functional, f"INTER_{kind.upper()}")

        def resized(pixels: Any) -> Any:
            for height, width in sizes:
                pixels = functional.resize(pixels, (width, height), interpolation=code)
            return pixels

        return each_array(x, resized)
    pixels = x if by == "torchvision-float" else (x * 255).round().byte()
    for height, width in sizes:
        pixels = functional.resize(
            pixels,
            [height, width],
            interpolation=functional.InterpolationMode(kind),
            antialias=by != "torchvision-aliased",
        )
    return pixels.clamp(0, 1) if pixels.is_floating_point() else pixels.to(x) / 255


def letterbox(x: Tensor, share: float, level: float = 114) -> Tensor:
    """The picture in a share of the rows, between bars of a grey level from 0 to 255."""
    height, width = check_images(x).shape[2:]
    rows = max(1, round(share * height))
    top = (height - rows) // 2
    boxed = torch.full_like(x, round(level) / 255)
    if len(x):
        size = torch.Size((rows, width))
        boxed[:, :, top : top + rows] = _resized_by_pillow(x, [size], "bilinear")
    return boxed


def palette(x: Tensor, colours: float) -> Tensor:
    """The colours that suit an image best, with Floyd-Steinberg dithering, as in GIF files."""

    def reduced(image: Any, before: Any) -> Any:
        colourful = before.convert("RGB")
        best = colourful.quantize(round(colours))
        return colourful.quantize(palette=best, dither=image.Dither.FLOYDSTEINBERG).convert("RGB")

    return through_pillow(x, reduced)


def grey(x: Tensor) -> Tensor:
    """Luminance, in all channels."""
    return through_pillow(x, lambda _, before: before.convert("L"))


def _resized_by_pillow(x: Tensor, sizes: list[torch.Size], kind: str) -> Tensor:
    resample = pillow().Resampling[kind.upper()]

    def resized(_: Any, before: Any) -> Any:
        for height, width in sizes:
            before = before.resize((width, height), resample)
        return before

    return through_pillow(x, resized)
