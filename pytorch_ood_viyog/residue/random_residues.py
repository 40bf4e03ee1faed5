"""
Random residues that ID images are given at fit: what an attack of a known strength would add,
white, or smooth as by an attacker who avoids the finest detail.
"""

import math

import torch
from torch import Tensor

from ..layer.linear.effective_convolution import Geometry
from ..layer.linear.precise_convolution import convolve
from ..layer.precision import precise
from .reader import Reader
from .windows import Windows

__all__ = ["random_residue", "smooth_signs"]


def random_residue(
    reader: Reader,
    geometry: Geometry,
    windows: Windows,
    counts: tuple[int, ...],
    samples: int,
    scale: Tensor,
    generator: torch.Generator,
    *,
    width: float = 0.0,
    grey: bool = False,
) -> Tensor:
    """
    Random signs that span the whole dynamic range, on the part of the layer's input that windows
    see; a residue of strength :math:`\\epsilon` is :math:`\\epsilon` times this.

    :param reader: what will read it
    :param geometry: grid of the layer
    :param windows: where it will be read
    :param counts: number of windows along each axis
    :param samples: number of samples
    :param scale: dynamic range of each input channel
    :param generator: source of the signs
    :param width: of the blur that makes the residue smooth, in positions of the layer's input;
        0 leaves it white
    :param grey: whether every other residue is the same in all channels
    :return: residues, :math:`B \\times C_{in} \\times *S`
    """
    kernel = reader.window_kernel
    stride = windows.input_stride(geometry)
    sizes = [
        (count - 1) * step + reach
        for count, step, reach in zip(counts, stride, kernel.shape[2:], strict=True)
    ]
    amplitude = scale.float().view(-1, *[1] * len(sizes))
    shape = (samples, kernel.shape[1], *sizes)
    signs = torch.randint(0, 2, shape, generator=generator).to(kernel.device) * 2 - 1
    if grey:
        signs[1::2] = signs[1::2, :1].clone()
    shaped = smooth_signs(signs, width) if width else signs
    return precise(shaped * amplitude)


def smooth_signs(signs: Tensor, width: float) -> Tensor:
    """
    Random signs, blurred, brought back to a mean square of 1 and clipped to [-1, 1]: like an
    attack that is blurred in every step, they use most of the budget nearly everywhere.

    .. math:: \\max(-1, \\min(1,\\ G * \\delta \\,/\\, \\lVert G \\rVert_2))

    with a Gaussian :math:`G`; beyond the border, the field repeats itself.

    :param signs: :math:`\\delta`, independent signs, :math:`B \\times C \\times *S`
    :param width: standard deviation of the Gaussian, in positions
    :return: values in [-1, 1], of the same shape, float32
    """
    reach = max(1, math.ceil(3 * width))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device=signs.device)
    weights = (-0.5 * (offsets / width).square()).exp()
    weights = (weights / weights.norm()).to(torch.float32)
    blurred = signs.float()
    for axis in range(2, signs.dim()):
        rows = blurred.movedim(axis, -1)
        size = rows.shape[-1]
        around = torch.arange(-reach, size + reach, device=signs.device) % size
        lines = rows[..., around].reshape(-1, 1, size + 2 * reach)
        blurred = convolve(lines, weights.view(1, 1, -1), (1,)).view(rows.shape).movedim(-1, axis)
    return blurred.clamp(-1, 1)
