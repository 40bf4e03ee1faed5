"""Views of an image that its label survives, by kind, each from strong to weak.

What a kind does to a classifier is not decided by hand: of each, the strongest view is taken that
ID answers survive, as :class:`~pytorch_ood_viyog.looks.second_look.SecondLook` does; a kind that
they survive in no strength is left out (mirrored traffic signs).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from pytorch_ood_viyog.benchmark.attacks.gradient import gaussian_blur
from pytorch_ood_viyog.images.purifiers import purified_images
from pytorch_ood_viyog.looks.answers import softmax_distance

__all__ = ["CHANGES", "PURIFIERS", "SHIFTS", "View", "as_strong_as_survived"]

#: a function of images (N, C, H, W) in [0, 1]
View = Callable[[Tensor], Tensor]

# simulated noise that answers must survive, and what a clear change is: as for SecondLook
_NOISE = 4 / 255
_CLEARLY = 1.0


def purified(x: Tensor, name: str, level: float) -> Tensor:
    """:return: images without what is weaker than ``level`` of 255"""
    return purified_images(name, x, torch.full((len(x),), level / 255))


def moved(x: Tensor, right: int, down: int) -> Tensor:
    """:return: images moved by whole pixels, borders mirrored"""
    height, width = x.shape[2:]
    edge = max(abs(right), abs(down))
    padded = functional.pad(x, (edge,) * 4, mode="reflect")
    top, left = edge - down, edge - right
    return padded[..., top : top + height, left : left + width]


def turned(x: Tensor, zoom: float = 1.0, degrees: float = 0.0) -> Tensor:
    """:return: images enlarged and turned about their middle"""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
    matrix = x.new_tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]]).expand(len(x), 2, 3)
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def paler(x: Tensor, contrast: float) -> Tensor:
    """:return: images with less contrast about their mean"""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + contrast * (x - mean)


def brighter(x: Tensor, gamma: float) -> Tensor:
    """:return: images to a power; black has no gradient and is left a little grey"""
    return x.clamp(1e-3, 1) ** gamma


def mirrored(x: Tensor) -> Tensor:
    """:return: images with left and right exchanged"""
    return x.flip(-1)


#: what takes small changes out
PURIFIERS: dict[str, list[View]] = {
    name: [partial(purified, name=name, level=level) for level in (6, 4, 3, 2)]
    for name in ("nlm", "jpeg", "bilateral")
} | {"median": [partial(purified, name="median", level=2)]}

#: whole pixels: layers with a stride see another part of a perturbation
SHIFTS: dict[str, list[View]] = {
    f"moved {right} {down}": [partial(moved, right=right, down=down)]
    for right, down in ((1, 0), (0, 1), (1, 1), (-1, -1), (2, 1), (-1, 2), (2, -3), (3, 2))
}

#: changes of geometry, sharpness and light
CHANGES: dict[str, list[View]] = {
    "moved": [partial(moved, right=n, down=-n) for n in (3, 2, 1)],
    "mirrored": [mirrored],
    "smaller": [partial(turned, zoom=zoom) for zoom in (0.8, 0.9, 0.95)],
    "larger": [partial(turned, zoom=zoom) for zoom in (1.2, 1.1, 1.05)],
    "turned left": [partial(turned, degrees=degrees) for degrees in (12, 8, 5)],
    "turned right": [partial(turned, degrees=-degrees) for degrees in (12, 8, 5)],
    "blurred": [partial(gaussian_blur, sigma=sigma) for sigma in (1.0, 0.7, 0.5)],
    "paler": [partial(paler, contrast=contrast) for contrast in (0.5, 0.7)],
    "brighter": [partial(brighter, gamma=gamma) for gamma in (0.6, 0.8)],
}


def as_strong_as_survived(
    kinds: dict[str, list[View]], answers: Callable[[Tensor], Tensor], x: Tensor, flips: float
) -> list[View]:
    """
    :param kinds: views by kind, from strong to weak
    :param answers: images -> logits
    :param x: ID images
    :param flips: share of the answers that may change clearly, half of them with simulated noise
    :return: of each kind the first view that few enough answers change in, if there is one
    :raises ValueError: if there is none of any kind
    """
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    both = torch.cat([x, (x + _NOISE * noise).clamp(0, 1)])
    first = answers(both)
    chosen = []
    for views in kinds.values():
        survived = (v for v in views if _changed(first, answers(v(both))) <= flips)
        chosen += [view for view in [next(survived, None)] if view is not None]
    if not chosen:
        raise ValueError(f"ID answers survive none of {list(kinds)} with {flips:.0%} changed.")
    return chosen


def _changed(first: Tensor, second: Tensor) -> float:
    other = first.argmax(dim=1) != second.argmax(dim=1)
    return float((other & (softmax_distance(first, second) > _CLEARLY)).double().mean())
