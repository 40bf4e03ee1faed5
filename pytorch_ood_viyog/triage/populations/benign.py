"""
NOISY: what cameras, codecs and editors do to images without anybody meaning harm.
"""

import torch
from torch import Tensor

from ...residue.intent.simulation import SIMULATED, UnitRange, benign_inputs

__all__ = ["benign"]

_UNIT = UnitRange(torch.zeros(1), torch.ones(1))
# how far values may be outside of [0, 1]
_BEYOND = 0.25


def benign(images: Tensor, seed: int) -> Tensor:
    """
    :param images: ID images in [0, 1], :math:`B \\times C \\times *S`
    :param seed: seed of the draw and of noise
    :return: each with a random one of the changes of
        :data:`~pytorch_ood_viyog.residue.intent.simulation.SIMULATED`, rounded to 8 bit
    :raises ValueError: if values are far outside of [0, 1]
    """
    if images.numel() and not -_BEYOND <= images.amin() <= images.amax() <= 1 + _BEYOND:
        raise ValueError(
            f"Benign changes need images in [0, 1], got values from {images.amin():.4g} to "
            f"{images.amax():.4g}."
        )
    possible = [c for c in SIMULATED if benign_inputs(images[:0], c, _UNIT, 0) is not None]
    drawn = torch.randint(
        len(possible), images.shape[:1], generator=torch.Generator().manual_seed(seed)
    ).to(images.device)
    changed = images.clone()
    for number, change in enumerate(possible):
        part = benign_inputs(images[drawn == number], change, _UNIT, seed)
        if part is not None:
            changed[drawn == number] = part.to(changed)
    return changed
