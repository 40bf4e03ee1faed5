"""
What pipelines do to the size and the colours of images, by the libraries that do it there.
"""

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .codecs import pillow, through_pillow
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
    """
    :param name: one of :data:`FILTERS`
    :return: its module
    :raises ImportError: if it is not installed
    """
    module = _MODULES.get(name, "torchvision.transforms.v2.functional")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"A resizer of {name} needs its library: pip install 'pytorch-ood-viyog[ways]'"
        ) from error


def check_filter(kind: str = "bilinear", by: str = "pillow") -> None:
    """
    :param kind: filter
    :param by: library, one of :data:`FILTERS`
    :raises ValueError: if the library has no such filter
    """
    if kind not in FILTERS[by]:
        raise ValueError(f"{by} resizes by {', '.join(FILTERS[by])}, got {kind!r}.")


def resize(x: Tensor, factor: float, kind: str = "bilinear", by: str = "pillow") -> Tensor:
    """
    To another size and back.

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param factor: height and width in between, as share of those of ``x``
    :param kind: filter
    :param by: library, one of :data:`FILTERS`
    :return: images of the old size
    :raises ValueError: if images are outside [0, 1], or the library has no such filter
    :raises ImportError: if the library is not installed
    """
    check_filter(kind, by)
    size = check_images(x).shape[2:]
    between = torch.Size(max(1, round(side * factor)) for side in size)
    if by == "pillow":
        return _resized_by_pillow(x, [between, size], kind)
    if by == "opencv":
        return _resized_by_opencv(x, [between, size], kind)
    functional = library(by)
    pixels = x if by == "torchvision-float" else (x * 255).round().byte()
    for height, width in (between, size):
        pixels = functional.resize(
            pixels,
            [height, width],
            interpolation=functional.InterpolationMode(kind),
            antialias=by != "torchvision-aliased",
        )
    return pixels.clamp(0, 1) if pixels.is_floating_point() else pixels.to(x) / 255


def letterbox(x: Tensor, share: float, level: float = 114) -> Tensor:
    """
    The picture in the middle rows, with bars above and below.

    :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param share: of the height that the picture takes
    :param level: grey level of the bars, 0 to 255
    :return: images of the old size
    :raises ValueError: if images are outside [0, 1]
    :raises ImportError: if Pillow is not installed
    """
    height, width = check_images(x).shape[2:]
    rows = max(1, round(share * height))
    top = (height - rows) // 2
    boxed = torch.full_like(x, round(level) / 255)
    if not len(x):
        return boxed
    boxed[:, :, top : top + rows] = _resized_by_pillow(x, [torch.Size((rows, width))], "bilinear")
    return boxed


def palette(x: Tensor, colours: float) -> Tensor:
    """
    The colours that suit the image best, with Floyd-Steinberg dithering, as GIF and PNG hold.

    :param x: images in [0, 1], :math:`B \\times 3 \\times H \\times W`, or grey with one channel
    :param colours: number of colours, 2 to 256
    :return: images of these colours
    :raises ValueError: if images are outside [0, 1] or have other channels
    :raises ImportError: if Pillow is not installed
    """

    def reduced(image: Any, before: Any) -> Any:
        colourful = before.convert("RGB")
        best = colourful.quantize(round(colours))
        return colourful.quantize(palette=best, dither=image.Dither.FLOYDSTEINBERG).convert("RGB")

    return through_pillow(x, reduced)


def grey(x: Tensor) -> Tensor:
    """
    :param x: images in [0, 1], :math:`B \\times 3 \\times H \\times W`, or grey with one channel
    :return: their luminance, in all channels
    :raises ValueError: if images are outside [0, 1] or have other channels
    :raises ImportError: if Pillow is not installed
    """
    return through_pillow(x, lambda _, before: before.convert("L"))


def _resized_by_pillow(x: Tensor, sizes: list[torch.Size], kind: str) -> Tensor:
    resample = pillow("").Resampling[kind.upper()]

    def resized(_: Any, before: Any) -> Any:
        for height, width in sizes:
            before = before.resize((width, height), resample)
        return before

    return through_pillow(x, resized)


def _resized_by_opencv(x: Tensor, sizes: list[torch.Size], kind: str) -> Tensor:
    cv2 = library("opencv")
    code = getattr(cv2, f"INTER_{kind.upper()}")
    read = []
    for array in (x.detach().cpu() * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy():
        pixels = array
        for height, width in sizes:
            pixels = cv2.resize(pixels, (width, height), interpolation=code)
        read.append(np.asarray(pixels).reshape(array.shape))
    if not read:
        return x
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).to(x) / 255
