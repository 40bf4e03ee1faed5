"""
Residues that fill a part of the image only, made from ID data: what they add to the responses.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...layer.linear.effective_convolution import Geometry
from ..maps import responses
from ..random_residues import random_residue
from ..reader import Reader
from ..windows import Windows

__all__ = ["CHUNK", "confined_residues"]

#: samples at once
CHUNK = 8
# sides of the box that a confined residue fills, as shares of the image's
_SIDES = (0.25, 0.75)


def confined_residues(
    reader: Reader,
    geometry: Geometry,
    windows: Windows,
    maps: Tensor,
    scale: Tensor,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """
    :param reader: the directions
    :param geometry: grid of the layer
    :param windows: where they are read
    :param maps: packed maps of ID samples
    :param scale: dynamic range of each input channel
    :param generator: source of signs and boxes
    :return: for a few samples at a time the responses in windows, what a residue of random signs
        adds to them per unit of strength, and what it adds if only a box at a random place is
        filled, with sides of a quarter to three quarters of the image's
    """
    counts = windows.count(tuple(maps.shape[2:]))
    for part in torch.split(maps, CHUNK):
        clean = responses(reader, part, windows)[0][1]
        clean = clean.reshape(*clean.shape[:2], *counts)
        shape = (geometry, windows, counts, len(part), scale)
        signs = random_residue(reader, *shape, generator)
        boxed = signs * _boxes(signs, generator)
        whole, confined = (reader.around_residue(geometry, r, windows) for r in (signs, boxed))
        yield clean, whole, confined


def _boxes(signs: Tensor, generator: torch.Generator) -> Tensor:
    """:return: one box of ones for each sample, :math:`B \\times 1 \\times *S`"""
    low, high = _SIDES
    boxes = torch.zeros_like(signs[:, :1])
    for box in boxes:
        inside = box[0]
        for axis, size in enumerate(box.shape[1:]):
            share = low + (high - low) * float(torch.rand((), generator=generator))
            length = max(1, round(share * size))
            start = int(torch.randint(size - length + 1, (), generator=generator))
            inside = inside.narrow(axis, start, length)
        inside.fill_(1)
    return boxes
