"""
OOD: images whose content is foreign, and whose fine structure is foreign too.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ...images.pixels import to_8_bit
from .foreign import foreign

__all__ = ["REMADE", "remade"]

Change = Callable[[Tensor, torch.Generator], Tensor]

# of the changes, so many are made of each image
_CHANGES = 2
# sides of details and of small images, as shares of the image's, and fewest pixels
_LEAST, _MOST, _PIXELS = 0.25, 0.7, 4


def coarse(image: Tensor, generator: torch.Generator) -> Tensor:
    """:return: the image made smaller and enlarged again"""
    return _resized(_smaller(image, generator), image.shape[1:], "bicubic")


def detail(image: Tensor, generator: torch.Generator) -> Tensor:
    """:return: a part of the image, enlarged"""
    height, width = _small_sides(image, generator)
    top = int(_drawn(0, image.shape[1] - height, generator))
    left = int(_drawn(0, image.shape[2] - width, generator))
    part = image[:, top : top + height, left : left + width]
    return _resized(part, image.shape[1:], "bicubic")


def framed(image: Tensor, generator: torch.Generator) -> Tensor:
    """:return: the image made smaller, on black or on one grey"""
    small = _smaller(image, generator)
    grey = max(0.0, _drawn(-1, 1, generator))
    top, left = (image.shape[1] - small.shape[1]) // 2, (image.shape[2] - small.shape[2]) // 2
    whole = torch.full_like(image, grey)
    whole[:, top : top + small.shape[1], left : left + small.shape[2]] = small
    return whole


def toned(image: Tensor, generator: torch.Generator) -> Tensor:
    """:return: another gamma and another contrast"""
    bent = image.clamp(0, 1) ** math.exp(_drawn(-1, 1, generator))
    return bent.mean() + (bent - bent.mean()) * _drawn(0.3, 1.2, generator)


def colourless(image: Tensor, generator: torch.Generator) -> Tensor:
    """:return: the image in greys"""
    return image.mean(dim=0, keepdim=True).expand_as(image)


def grainy(image: Tensor, generator: torch.Generator) -> Tensor:
    """:return: white noise of 1 to 4 grey levels added"""
    noise = torch.randn(image.shape, generator=generator).to(image)
    return image + noise * (_drawn(1, 4, generator) / 255)


def _drawn(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _small_sides(image: Tensor, generator: torch.Generator) -> list[int]:
    share = _drawn(_LEAST, _MOST, generator)
    return [min(side, max(_PIXELS, round(side * share))) for side in image.shape[1:]]


def _smaller(image: Tensor, generator: torch.Generator) -> Tensor:
    return _resized(image, _small_sides(image, generator), "bilinear")


def _resized(image: Tensor, sides: list[int] | torch.Size, mode: str) -> Tensor:
    return functional.interpolate(image[None], size=list(sides), mode=mode, antialias=True)[0]


#: what foreign images are remade by, in this order
REMADE: dict[str, Change] = {
    "coarse": coarse,
    "detail": detail,
    "toned": toned,
    "colourless": colourless,
    "framed": framed,
    "grainy": grainy,
}


def remade(images: Tensor, seed: int) -> Tensor:
    """
    :param images: ID images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param seed: seed of what is random
    :return: a :func:`foreign` image for each, after two changes of :data:`REMADE`, rounded to 8
        bit
    """
    generator = torch.Generator().manual_seed(seed)
    changes = list(REMADE.values())
    found = []
    for image in foreign(images, seed):
        chosen = torch.randperm(len(changes), generator=generator)[:_CHANGES].sort().values
        for number in chosen.tolist():
            image = changes[number](image, generator)
        found.append(image)
    return to_8_bit(torch.stack(found).clamp(0, 1)) if found else images
