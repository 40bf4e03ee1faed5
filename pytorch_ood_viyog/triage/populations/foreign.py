"""
OOD: images whose content is foreign but whose fine structure is that of ID images.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ...images.filters import gaussian_blur
from ...images.pixels import to_8_bit

__all__ = ["FOREIGN", "foreign"]

Change = Callable[[Tensor, torch.Generator], Tensor]


def shuffled_tiles(x: Tensor, generator: torch.Generator, tiles: int = 2) -> Tensor:
    """:return: each image's tiles in another order, turned by half where tiles are not square"""
    height, width = x.shape[2] // tiles * tiles, x.shape[3] // tiles * tiles
    whole = x[:, :, :height, :width]
    parts = whole.reshape(len(x), -1, tiles, height // tiles, tiles, width // tiles)
    parts = parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    result = []
    for image in parts:
        order = torch.randperm(tiles**2, generator=generator)
        turned = [_turned(image[i], generator) for i in order.tolist()]
        rows = [torch.cat(turned[i : i + tiles], dim=2) for i in range(0, tiles**2, tiles)]
        result.append(torch.cat(rows, dim=1))
    changed = x.clone()
    if result:
        changed[:, :, :height, :width] = torch.stack(result)
    return changed


def small_tiles(x: Tensor, generator: torch.Generator) -> Tensor:
    """:return: as :func:`shuffled_tiles`, of four by four tiles"""
    return shuffled_tiles(x, generator, tiles=4)


def inverted(x: Tensor, generator: torch.Generator) -> Tensor:
    """:return: negatives, upside down"""
    return (1 - x).flip(2)


def zoomed(x: Tensor, generator: torch.Generator) -> Tensor:
    """:return: the middle half of each image, twice as large"""
    height, width = x.shape[2:]
    middle = x[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
    size = [height, width]
    return functional.interpolate(middle, size=size, mode="bicubic").clamp(0, 1)


def halves(x: Tensor, generator: torch.Generator) -> Tensor:
    """:return: the left half of one image beside the right half of another, upside down"""
    other = x[torch.randperm(len(x), generator=generator).to(x.device)].flip(2)
    middle = x.shape[3] // 2
    return torch.cat([x[:, :, :, :middle], other[:, :, :, middle:]], dim=3)


def recoloured(x: Tensor, generator: torch.Generator) -> Tensor:
    """:return: colour channels swapped, mirrored; upside down where there is one channel"""
    return x.roll(1, dims=1).flip(3) if x.shape[1] > 1 else x.flip(2)


def mixed(x: Tensor, generator: torch.Generator) -> Tensor:
    """:return: brightness of one image, colours of another; a turned image where there are none"""
    other = x[torch.randperm(len(x), generator=generator).to(x.device)].rot90(2, (2, 3))
    grey, own = other.mean(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)
    return (other - grey + own).clamp(0, 1) if x.shape[1] > 1 else 1 - other


def two_tones(x: Tensor, generator: torch.Generator) -> Tensor:
    """:return: black where an image is darker than its mean, white elsewhere, turned"""
    grey = x.mean(dim=1, keepdim=True)
    return (grey > grey.mean(dim=(2, 3), keepdim=True)).to(x).expand_as(x).flip(2)


def sketched(x: Tensor, generator: torch.Generator) -> Tensor:
    """:return: edges, white on black"""
    edges = (x - gaussian_blur(x, 1.0)).abs().mean(dim=1, keepdim=True)
    largest = edges.amax(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return (edges / largest).expand_as(x)


def _turned(tile: Tensor, generator: torch.Generator) -> Tensor:
    quarter = 1 if tile.shape[1] == tile.shape[2] else 2
    turns = int(torch.randint(4 // quarter, (), generator=generator)) * quarter
    tile = tile.rot90(turns, (1, 2))
    return 1 - tile if bool(torch.rand((), generator=generator) < 0.25) else tile


#: what foreign images are made by
FOREIGN: dict[str, Change] = {
    "tiles": shuffled_tiles,
    "small tiles": small_tiles,
    "inverted": inverted,
    "zoomed": zoomed,
    "halves": halves,
    "recoloured": recoloured,
    "mixed": mixed,
    "two tones": two_tones,
    "sketched": sketched,
}


def foreign(images: Tensor, seed: int) -> Tensor:
    """
    :param images: ID images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param seed: seed of what is random
    :return: a foreign image for each, by the changes of :data:`FOREIGN` in turn, rounded to 8 bit
    """
    generator = torch.Generator().manual_seed(seed)
    changed = images.clone()
    order = torch.randperm(len(images), generator=generator).to(images.device)
    for number, change in enumerate(FOREIGN.values()):
        chosen = order[number :: len(FOREIGN)]
        if len(chosen):
            changed[chosen] = change(images[chosen], generator)
    return to_8_bit(changed)
