"""
Shapes that the quiet directions of the first layer hardly respond to.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....detectors.residue import ViyogResidue
from ..systems.system import System
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
    travel = 4.0

    def suits(self, system: System) -> bool:
        """See :meth:`Shape.suits`: where a detector reads quiet directions."""
        return system.residue is not None

    def of(self, target: Target) -> Callable[[Tensor], Tensor]:
        """See :meth:`Shape.of`."""
        size, residue = tuple(target.x.shape[2:]), target.system.residue
        if residue is None:
            raise ValueError("There is no ViyogResidue whose directions could be avoided.")
        pass_through = _filter(residue, size, self.kept).to(target.x.device)

        def filtered(free: Tensor) -> Tensor:
            spectrum = torch.fft.rfft2(free)
            left = torch.einsum("hwij,bjhw->bihw", pass_through, spectrum)
            change: Tensor = torch.fft.irfft2(left, s=size)
            return change.to(free.dtype)

        return filtered


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
