"""
What perturbations may look like: pixels of their own, without fine detail, or out of the quiet
directions of the first layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ...detectors.residue import ViyogResidue
from ..attacks.gradient import gaussian_blur
from .target import Target

__all__ = ["BLURRED", "OUT_OF_QUIET", "PIXELS", "Project", "Projection"]

#: makes perturbations of free variables, both (B, C, H, W); not clipped to the budget yet
Project: TypeAlias = Callable[[Tensor], Tensor]

# standard deviation of the Gaussian in pixels
_SIGMA = 0.7
# share of the energy of random changes that is left
_KEPT = 0.2


@dataclass(frozen=True)
class Projection:
    """
    :param of: makes the map of free variables for a target
    :param reach: how far free variables may go, in budgets: smoothing makes them smaller
    :param travel: how far all steps together could take them, in budgets
    :param needs_residue: whether it is made of a system's ViyogResidue
    """

    of: Callable[[Target], Project]
    reach: float = 1.0
    travel: float = 2.0
    needs_residue: bool = False


def _out_of_quiet(target: Target) -> Project:
    """
    Perturbations kept out of the quiet directions through the first layer's kernel. With the
    responses :math:`A(f)` of the directions' kernels at a spatial frequency :math:`f`, each
    divided by what natural images show there, the filter for the colours is

    .. math:: P(f) = (I + \\lambda A(f)^* A(f))^{-1}

    with :math:`\\lambda` such that random changes keep a fifth of their energy. The border and
    the layer's stride are neglected.
    """
    residue, size = target.system.residue, tuple(target.x.shape[2:])
    if residue is None:
        raise ValueError("There is no ViyogResidue whose directions could be avoided.")
    passing = _filter(residue, size).to(target.x.device)

    def filtered(free: Tensor) -> Tensor:
        left = torch.einsum("hwij,bjhw->bihw", passing, torch.fft.rfft2(free))
        change: Tensor = torch.fft.irfft2(left, s=size)
        return change.to(free.dtype)

    return filtered


def _filter(residue: ViyogResidue, size: tuple[int, ...]) -> Tensor:
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
        low, high = (middle, high) if float(left) > _KEPT else (low, middle)
    shrunk = 1 / (1 + values.clamp_min(0) * 2.0**low)
    passing: Tensor = torch.einsum("hwik,hwk,hwjk->hwij", vectors, shrunk + 0j, vectors.conj())
    return passing.to(torch.complex64)


#: every pixel for itself
PIXELS = Projection(lambda target: lambda free: free)
#: without fine detail, which quiet directions consist of
BLURRED = Projection(lambda target: lambda free: gaussian_blur(free, _SIGMA), 3.0, 4.0)
#: what the quiet directions hardly respond to
OUT_OF_QUIET = Projection(_out_of_quiet, 4.0, 4.0, needs_residue=True)
