"""
NOISY: what cameras, codecs and editors do to images without anybody meaning harm.
"""

import torch
from torch import Tensor

from ...residue.intent.random_changes import randomly_changed
from ...residue.intent.simulation import UnitRange

__all__ = ["benign"]

_UNIT = UnitRange(torch.zeros(1), torch.ones(1))


def benign(images: Tensor, seed: int) -> Tensor:
    """
    :param images: ID images in [0, 1], :math:`B \\times C \\times *S`
    :param seed: seed of the draw and of noise
    :return: each with a random one of the changes of
        :data:`~pytorch_ood_viyog.residue.intent.simulation.SIMULATED`, rounded to 8 bit
    """
    return randomly_changed(images, _UNIT, seed)
