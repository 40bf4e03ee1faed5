"""
Directions of channel space that natural images leave nearly empty and white noise does not.
"""

import torch
from torch import Tensor

__all__ = ["quiet_directions"]


def quiet_directions(
    covariance: Tensor, gain: Tensor, count: int, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """
    Solve :math:`\\Sigma u = \\lambda N u` on the range of :math:`N`, the quietest first.

    :math:`u^\\top a` then responds to white noise of unit variance with unit variance, and
    :math:`\\lambda` is its natural energy per unit of noise gain.

    :param covariance: :math:`\\Sigma`, covariance of the maps on ID data, :math:`C \\times C`
    :param gain: :math:`N = W W^\\top`, their covariance in response to white noise,
        :math:`C \\times C`
    :param count: number of directions wanted; there are at most as many as :math:`N` has rank
    :param tolerance: eigenvalues of :math:`N` below this share of the largest count as zero
    :return: directions as rows, :math:`R \\times C`, and their :math:`\\lambda`, ascending, shape
        :math:`R`
    :raises ValueError: if the gain is zero
    """
    power, axes = torch.linalg.eigh(gain)
    if not bool(power[-1] > 0):
        raise ValueError("The convolution does not respond to its input: its weights are zero.")
    kept = power > tolerance * power[-1]
    whitening = axes[:, kept] / power[kept].sqrt()
    energies, rotation = torch.linalg.eigh(whitening.T @ covariance @ whitening)
    directions = (whitening @ rotation[:, :count]).T
    # eigenvectors come with a random sign
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return directions * largest.sign(), energies[:count].clamp_min(0)
