"""
NOISY: what cameras, codecs and editors do to images without anybody meaning harm.
"""

import torch
from torch import Tensor

from ...images.benign import BenignChange
from ...residue.intent.simulation import SIMULATED

__all__ = ["benign"]


def benign(images: Tensor, seed: int) -> Tensor:
    """
    :param images: ID images in [0, 1], :math:`B \\times C \\times H \\times W`
    :param seed: seed of the draw and of noise
    :return: each with a random one of the changes, rounded to 8 bit
    """
    generator = torch.Generator().manual_seed(seed)
    possible = [c for c in SIMULATED if c.available and c.suits(images.shape[1])]
    drawn = torch.randint(len(possible), (len(images),), generator=generator)
    factors = 2 ** (torch.rand(len(possible), generator=generator) - 0.5)
    changed = images.clone()
    for number, change in enumerate(possible):
        chosen = (drawn == number).to(images.device)
        if bool(chosen.any()):
            if "noise" in change.kind or change.kind == "sharpening":
                change = BenignChange(change.kind, change.strength * float(factors[number]))
            changed[chosen] = change(images[chosen], seed=seed + number).to(images)
    return changed
