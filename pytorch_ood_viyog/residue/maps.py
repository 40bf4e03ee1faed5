"""
Directions and feature maps: responses, as :class:`~pytorch_ood_viyog.residue.reader.Reader` reads
them of the layer's input, and maps without the small ones. Plain tensor code, any number of
spatial dimensions.
"""

import math

import torch
from torch import Tensor

from ..layer.linear.constant_windows import constant
from ..layer.linear.effective_convolution import Geometry
from ..layer.linear.precise_convolution import convolve_differences
from ..layer.precision import accumulator_dtype, precise
from .reader import Reader, Responses
from .windows import Windows

__all__ = ["duals", "energy_in", "inputs_of", "local_responses", "purified_maps", "responses"]

# samples at once
_CHUNK = 8
# of white noise, a response in two thousand is larger than this multiple of its strength
_LARGEST = 3.5
# strength of nothing
_NOTHING = 1e-9


def responses(reader: Reader, maps: Tensor, windows: Windows) -> tuple[Responses, Tensor]:
    """
    :return: responses :math:`z` of packed maps, :math:`B \\times C \\times *S`, and which windows
        are constant
    """
    local = _to(reader.local, windows.thinned(windows.positions(maps)), reader.mean)
    quiet = reader.window.shape[1]
    if local.shape[2:] == maps.shape[2:]:
        seen = local[:, :quiet]
        around = _around(seen, reader.window, windows, like=precise(maps[:0]))
        flat = _flat_of(seen, windows)
    else:
        kernel = (reader.window.movedim(1, -1) @ reader.local[:quiet]).movedim(-1, 1)
        offset = kernel.flatten(2).sum(dim=2) @ reader.mean
        values = precise(maps)
        around = _around(values, kernel, windows, like=values[:0]) - offset[:, None]
        flat = _flat_in_maps(reader, maps, windows)
    return (local.flatten(2), around), flat


def inputs_of(reader: Reader, geometry: Geometry, maps: Tensor) -> Tensor | None:
    """
    :return: the inputs of the layer that made these maps, in full precision; ``None`` unless the
        maps have their size and the channels at each position tell all that the filters see there
    """
    grid = zip(geometry.before, geometry.after, geometry.reaches, geometry.stride, strict=True)
    centred = all(b == a and 2 * b == reach - 1 and s == 1 for b, a, reach, s in grid)
    determined = len(reader.local) >= reader.local_kernel[0].numel()
    if not centred or not determined or torch.compiler.is_compiling():  # exporters know no inverse
        return None
    taps = math.prod(geometry.kernel_size)
    inverse = torch.linalg.inv(reader.local_kernel.flatten(1))
    seen = inverse[taps // 2 :: taps]  # the pixel in the middle, of each channel
    exact = accumulator_dtype(maps.device)
    weights = (seen @ reader.local).to(exact)
    offset = (seen @ (reader.local @ reader.mean + reader.local_offset)).to(exact)[:, None]
    # few at a time stay in the processor's memory
    found = [weights @ part.flatten(2).to(exact) - offset for part in torch.split(maps, _CHUNK)]
    whole = torch.cat([x.to(precise(maps[:0])) for x in found])
    return whole.reshape(*whole.shape[:2], *maps.shape[2:])


def local_responses(reader: Reader, maps: Tensor, windows: Windows) -> Tensor:
    """:return: responses of the local directions at all positions that are read one by one"""
    return _to(reader.local, windows.positions(maps), reader.mean).flatten(2)


def _to(directions: Tensor, maps: Tensor, mean: Tensor) -> Tensor:
    """Responses to the maps, :math:`B \\times M \\times *S`."""
    # directions of little gain have large weights, which float32 would not cancel
    exact = accumulator_dtype(maps.device)
    # and the mean first: of large constant maps nothing is left then, not even rounding
    found = directions.to(exact) @ (maps.flatten(2).to(exact) - mean.to(exact)[:, None])
    return found.reshape(*found.shape[:2], *maps.shape[2:])


def _around(values: Tensor, kernel: Tensor, windows: Windows, like: Tensor) -> Tensor:
    once, types = (1,) * (values.dim() - 2), (like.dtype, accumulator_dtype(values.device))
    return convolve_differences(values, kernel, windows.packed_steps, once, types).flatten(2)


def _flat_in_maps(reader: Reader, maps: Tensor, windows: Windows) -> Tensor:
    """Which windows are constant, as far as the quiet directions tell."""
    loudest = (reader.local[-1:].to(maps) @ maps.flatten(2)).reshape(-1, 1, *maps.shape[2:])
    # one direction refutes it nearly everywhere; where it does not, all of them are asked
    flat = _flat_of(loudest / 2, windows)
    # a trace must hold for all
    asked = slice(None) if torch.compiler.is_compiling() else flat.flatten(1).any(dim=1)
    quiet = _to(reader.local, maps[asked], reader.mean)[:, : reader.window.shape[1]]
    flat[asked] = _flat_of(quiet, windows)
    return flat


def _flat_of(responses: Tensor, windows: Windows) -> Tensor:
    sizes = (3,) * (responses.dim() - 2)
    return constant(responses, responses.new_ones(1), sizes, windows.packed_steps)


def duals(kernel: Tensor, scale: Tensor, directions: Tensor) -> Tensor:
    """
    With directions :math:`u_i` of :math:`u_i^\\top N u_j = \\delta_{ij}`, the duals
    :math:`d_i = N u_i` take a response :math:`z_i = u_i^\\top a` back to the maps: as rows,
    :math:`M \\times C`, like the directions.
    """
    scaled = kernel * scale.to(kernel).view(1, -1, *[1] * (kernel.dim() - 2))
    flat = scaled.flatten(1)
    return directions.to(kernel) @ (flat @ flat.T)


def purified_maps(
    maps: Tensor, mean: Tensor, directions: Tensor, duals: Tensor, strengths: Tensor
) -> Tensor:
    """
    .. math::
        a' = a - \\sum_i d_i \\, z_i \\min(1, \\max(0, 3.5 - |z_i| / \\sigma)), \\qquad
        z_i = u_i^\\top (a - \\mathbb{E}_{ID}\\, a)

    What is below :math:`2.5 \\sigma` goes, what is above :math:`3.5 \\sigma` stays; in between, no
    response is at an edge where rounding would decide. The strengths :math:`\\sigma`, shape
    :math:`B`, are in units of the input's dynamic range.
    """
    responses = _to(directions, maps, mean)
    exact = responses.dtype
    sigma = strengths.to(exact).view(-1, 1, *[1] * (maps.dim() - 2))
    shares = (_LARGEST - responses.abs() / sigma.clamp_min(_NOTHING)).clamp(0, 1)
    change = duals.to(exact).T @ (responses * shares).flatten(2)
    return (maps.to(exact) - change.reshape(maps.shape)).to(maps.dtype)


def energy_in(directions: Tensor, maps: Tensor, mean: Tensor) -> Tensor:
    """
    :return: root mean square of :math:`u_i^\\top (a - \\mathbb{E}_{ID}\\, a)` over directions, as
        rows, and positions, shape :math:`B`; 0 for no directions
    """
    squares = _to(directions, maps, mean).square().flatten(1)
    return (squares.sum(dim=1) / max(1, squares.shape[1])).sqrt()
