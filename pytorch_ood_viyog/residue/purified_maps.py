"""
The purifier of first-layer maps: denoising by thresholds in the directions that a residue shows
in. Plain tensor code, any number of spatial dimensions.
"""

import torch
from torch import Tensor

__all__ = ["duals", "energy_in", "purified_maps"]

# of white noise, three in a thousand responses are larger than this multiple of its strength
_DEVIATIONS = 3.0


def duals(kernel: Tensor, scale: Tensor, directions: Tensor) -> Tensor:
    """
    With directions :math:`u_i` of :math:`u_i^\\top N u_j = \\delta_{ij}`, the duals
    :math:`d_i = N u_i` take a response :math:`z_i = u_i^\\top a` back to the maps.

    :param kernel: the convolution's weights without groups, :math:`C \\times C_{in} \\times *K`
    :param scale: dynamic range of each input channel, shape :math:`C_{in}`
    :param directions: :math:`u_i` as rows, :math:`M \\times C`
    :return: :math:`d_i` as rows, :math:`M \\times C`
    """
    scaled = kernel * scale.to(kernel).view(1, -1, *[1] * (kernel.dim() - 2))
    flat = scaled.flatten(1)
    return directions.to(kernel) @ (flat @ flat.T)


def purified_maps(
    maps: Tensor, mean: Tensor, directions: Tensor, duals: Tensor, strengths: Tensor
) -> Tensor:
    """
    .. math::
        a' = a - \\sum_i d_i \\, z_i \\, [\\, |z_i| \\leq 3 \\sigma \\,], \\qquad
        z_i = u_i^\\top (a - \\mathbb{E}_{ID}\\, a)

    :param maps: :math:`a`, shape :math:`B \\times C \\times *S`
    :param mean: :math:`\\mathbb{E}_{ID}\\, a`, shape :math:`C`
    :param directions: :math:`u_i` as rows, :math:`M \\times C`
    :param duals: :math:`d_i` as rows, :math:`M \\times C`
    :param strengths: :math:`\\sigma` of each sample in units of the input's dynamic range, shape
        :math:`B`
    :return: :math:`a'`, same shape and type
    """
    # as for reading: directions of little gain have large weights
    exact = torch.float32 if maps.device.type == "mps" else torch.float64
    space = [1] * (maps.dim() - 2)
    centred = maps.to(exact) - mean.to(exact).view(-1, *space)
    responses = torch.einsum("mc,bc...->bm...", directions.to(exact), centred)
    limits = _DEVIATIONS * strengths.to(exact).view(-1, 1, *space)
    small = torch.where(responses.abs() <= limits, responses, torch.zeros_like(responses))
    change = torch.einsum("mc,bm...->bc...", duals.to(exact), small)
    return (maps.to(exact) - change).to(maps.dtype)


def energy_in(directions: Tensor, maps: Tensor, mean: Tensor) -> Tensor:
    """
    :param directions: :math:`u_i` as rows, :math:`M \\times C`
    :param maps: :math:`a`, shape :math:`B \\times C \\times *S`
    :param mean: :math:`\\mathbb{E}_{ID}\\, a`, shape :math:`C`
    :return: root mean square of :math:`u_i^\\top (a - \\mathbb{E}_{ID}\\, a)` over directions and
        positions, shape :math:`B`; 0 for no directions
    """
    exact = torch.float32 if maps.device.type == "mps" else torch.float64
    centred = maps.to(exact) - mean.to(exact).view(-1, *[1] * (maps.dim() - 2))
    responses = torch.einsum("mc,bc...->bm...", directions.to(exact), centred)
    squares = responses.square().flatten(1)
    return (squares.sum(dim=1) / max(1, squares.shape[1])).sqrt()
