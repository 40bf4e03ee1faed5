"""
Shapes that the quiet directions of the first layer hardly respond to.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ....detectors.residue import ViyogResidue
from .descent import Shape
from .target import Target

__all__ = ["OutOfQuiet"]


@dataclass(frozen=True)
class OutOfQuiet(Shape):
    """
    Perturbations kept out of the quiet directions through the first layer's kernel. With the
    responses :math:`A(f)` of the directions' kernels at a spatial frequency :math:`f`, each
    divided by what natural images show there, the filter for the colours is

    .. math:: P(f) = (I + \\lambda A(f)^* A(f))^{-1}

    with :math:`\\lambda` such that random changes keep ``kept`` of their energy. The border and
    the layer's stride are neglected.

    :param kept: share of the energy of random changes that is left
    """

    kept: float = 0.2
    reach = 4.0
    step = 0.2

    def __call__(self, free: Tensor, target: Target) -> Tensor:
        """See :meth:`Shape.__call__`."""
        residue = target.system.residue
        if residue is None:
            return free
        pass_through = _filter(residue, tuple(free.shape[2:]), self.kept).to(free.device)
        spectrum = torch.fft.rfft2(free)
        filtered = torch.einsum("hwij,bjhw->bihw", pass_through, spectrum)
        change: Tensor = torch.fft.irfft2(filtered, s=free.shape[2:])
        return change.to(free.dtype)


def _filter(residue: ViyogResidue, size: tuple[int, ...], kept: float) -> Tensor:
    """:math:`P(f)` for each frequency of ``rfft2``, H × W' × C × C, complex64."""
    state = residue._require_state()
    kernel = state["local_kernel"].cpu().double()
    natural = state["energies"][: len(kernel)].cpu().double().clamp_min(1e-12)
    responses = torch.fft.rfft2(kernel, s=size) / natural.sqrt().view(-1, 1, 1, 1)
    gains = torch.einsum("mihw,mjhw->hwij", responses.conj(), responses)
    values, vectors = torch.linalg.eigh(gains)
    low, high = -20.0, 60.0
    for _ in range(40):  # bisection on the logarithm of the weight
        middle = (low + high) / 2
        left = (1 / (1 + values.clamp_min(0) * 2.0**middle)).square().mean()
        low, high = (middle, high) if float(left) > kept else (low, middle)
    shrunk = 1 / (1 + values.clamp_min(0) * 2.0**low)
    pass_through: Tensor = torch.einsum(
        "hwik,hwk,hwjk->hwij", vectors, shrunk + 0j, vectors.conj()
    )
    return pass_through.to(torch.complex64)
