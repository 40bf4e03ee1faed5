"""
What perturbations may look like: pixels of their own, without fine detail, or out of the quiet
directions of the first layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ...detectors.residue import ViyogResidue

__all__ = ["BLURRED", "OUT_OF_QUIET", "PIXELS", "Projection"]

# standard deviation of the Gaussian in pixels
_SIGMA = 0.7
# share of the energy of random changes that is left
_KEPT = 0.2


@dataclass(frozen=True)
class Projection:
    """What makes perturbations of free variables, both (B, C, H, W), before they are clipped."""

    #: of the system's ViyogResidue and the height and width
    of: Callable[[ViyogResidue | None, tuple[int, ...]], Callable[[Tensor], Tensor]]
    #: how far free variables may go, in budgets: smoothing makes them smaller
    reach: float = 1.0
    #: how far all steps together could take them, in budgets
    travel: float = 2.0
    needs_residue: bool = False


def _out_of_quiet(
    residue: ViyogResidue | None, size: tuple[int, ...]
) -> Callable[[Tensor], Tensor]:
    """
    Perturbations kept out of the quiet directions through the first layer's kernel. With the
    responses :math:`A(f)` of the directions' kernels at a spatial frequency :math:`f`, each
    divided by what natural images show there, the filter for the colours is

    .. math:: P(f) = (I + \\lambda A(f)^* A(f))^{-1}

    with :math:`\\lambda` such that random changes keep a fifth of their energy. The border and
    the layer's stride are neglected.
    """
    assert residue is not None
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
    passing = torch.einsum("hwik,hwk,hwjk->hwij", vectors, shrunk + 0j, vectors.conj())

    def filtered(free: Tensor) -> Tensor:
        own = passing.to(free.device, torch.complex64)
        left = torch.einsum("hwij,bjhw->bihw", own, torch.fft.rfft2(free))
        change: Tensor = torch.fft.irfft2(left, s=size)
        return change.to(free.dtype)

    return filtered


def _gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Images blurred by so many pixels; zero beyond the border."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, 1, -1)
    rows = conv2d(x, weights, padding=(0, radius), groups=x.shape[1])
    return conv2d(rows, weights.transpose(2, 3), padding=(radius, 0), groups=x.shape[1])


#: every pixel for itself
PIXELS = Projection(lambda residue, size: lambda free: free)
#: without fine detail, which quiet directions consist of
BLURRED = Projection(lambda residue, size: lambda free: _gaussian_blur(free, _SIGMA), 3.0, 4.0)
#: what the quiet directions hardly respond to
OUT_OF_QUIET = Projection(_out_of_quiet, 4.0, 4.0, needs_residue=True)
