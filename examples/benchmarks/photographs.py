"""Images of any source at one size, split into what is fitted on, attacked and measured on."""

from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pytorch_ood_viyog.benchmark.attacks import round_to_8_bit
from pytorch_ood_viyog.images import load_images
from pytorch_ood_viyog.images.disk.decoding import read_image

__all__ = ["Photographs", "read_images", "split_photographs"]

# fewer in any part would make its numbers worthless
_LEAST = 20


@dataclass(frozen=True)
class Photographs:
    """
    ID images (N, 3, H, W) in [0, 1] in three disjoint parts.

    :param fit: detectors are fitted on them
    :param attacked: attacks start from them
    :param test: clean images that scores of attacks are compared with
    """

    fit: Tensor
    attacked: Tensor
    test: Tensor


def read_images(source: str, size: int) -> Tensor:
    """
    :param source: a folder of images, an ``.npz`` file with ``images``, or ``FILE.npz:NAME`` for a
        file with encoded images one after the other in ``NAME_blob``, that begin at
        ``NAME_offsets``
    :param size: height and width in pixels
    :return: images (N, 3, size, size) in [0, 1], rounded to 8 bit. Those of a folder in random
        order (with a fixed seed), those of a file in its order.
    :raises ValueError: if the file has no such images
    """
    path, _, name = source.partition(".npz:")
    if name:
        return _decoded(Path(f"{path}.npz"), name, size)
    dataset = load_images(source, size, labelled=False)
    images = round_to_8_bit(torch.stack([dataset[i][0] for i in range(len(dataset))]))
    if not Path(source).is_dir():
        return images
    return images[torch.randperm(len(images), generator=torch.manual_seed(0))]


def _decoded(path: Path, name: str, size: int) -> Tensor:
    with np.load(path) as content:
        if f"{name}_blob" not in content:
            known = sorted(key.removesuffix("_blob") for key in content if key.endswith("_blob"))
            raise ValueError(f"{path} has no images named {name!r}, but {known}.")
        blob, offsets = content[f"{name}_blob"], content[f"{name}_offsets"]
    encoded = (BytesIO(blob[start:end].tobytes()) for start, end in pairwise(offsets))
    pixels = torch.stack([read_image(source, name=str(path)) for source in encoded])
    if pixels.shape[2:] != (size, size):
        raise ValueError(f"{path} has images of {tuple(pixels.shape[2:])} pixels, not {size}.")
    return pixels


def split_photographs(images: Tensor, fit: int, attacked: int) -> Photographs:
    """
    :param images: ID images, in random order
    :param fit: the first so many are fitted on
    :param attacked: the next so many are attacked, the rest are measured on
    :return: the parts
    :raises ValueError: if a part has fewer than 20 images
    """
    parts = (
        images.split([fit, attacked, max(0, len(images) - fit - attacked)])
        if (fit + attacked <= len(images))
        else (images, images[:0], images[:0])
    )
    if min(map(len, parts)) < _LEAST:
        raise ValueError(
            f"{len(images)} images are not enough for {fit} to fit on, {attacked} to attack and "
            f"at least {_LEAST} to measure on. Give more, or lower --fit and --n."
        )
    return Photographs(*parts)
