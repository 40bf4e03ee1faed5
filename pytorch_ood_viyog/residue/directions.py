"""
Directions of channel space that natural images leave nearly empty and white noise does not.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from ..layer.linear.effective_convolution import EffectiveConvolution
from .reader import Reader
from .windows import Windows, extended_kernel

__all__ = ["fit_reader", "quiet_directions"]

# rows of the covariance of a neighbourhood: more would take long to solve and bring nothing
_NEIGHBOURHOOD = 576
# vectors a covariance is estimated from, and fewest for each of its rows: with fewer, the quietest
# directions would be quiet by chance
_VECTORS, _FEWEST = 65536, 8
# energy of rounding, less than a hundredth of a grey level in 255: such directions are empty
_EMPTY = 1e-10
# samples, and vectors, at once
_CHUNK, _PART = 8, 4096


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


def fit_reader(
    conv: EffectiveConvolution,
    maps: Tensor,
    order: Tensor,
    windows: Windows,
    scale: Tensor,
    count: int,
) -> Reader:
    """
    Find the directions that ID images leave quiet, twice: among the channels at a position, and
    among the quietest of these directions in the position's neighbourhood. Neighbours matter for
    strided stems, whose filters see the finest detail only together.

    :param conv: what the layer does
    :param maps: packed maps of ID samples, :math:`K \\times C \\times *S`
    :param order: indices of the samples, as they are to be taken
    :param windows: where they are read
    :param scale: dynamic range of each input channel, shape :math:`C_{in}`
    :param count: number of directions of each kind
    """
    kernel = conv.kernel
    scale = scale.view(1, -1, *[1] * (kernel.dim() - 2))
    positions = len(maps) * math.prod(maps.shape[2:])
    step = max(1, positions // _VECTORS)
    mean, covariance = _moments(lambda: _spread(maps, order, step))
    gain = _gram(kernel * scale)
    most = max(count, _NEIGHBOURHOOD // 3 ** (maps.dim() - 2))
    found = quiet_directions(covariance, gain, len(gain))
    local, energies, empty = _without_empty(*found, most)

    local_kernel = torch.einsum("mc,c...->m...", local, kernel)
    quiet = local[: _window_directions(maps, windows)]
    extended = extended_kernel(conv.geometry, local_kernel[: len(quiet)])
    around = _neighbourhood_covariance(maps, order, mean, quiet, windows)
    found = quiet_directions(around, _gram(extended * scale), len(around))
    window, more_energies, _ = _without_empty(*found, count)
    offset = local @ (conv.bias - mean)
    return Reader(
        mean=mean,
        local=local,
        window=window.reshape(-1, len(quiet), *[3] * (maps.dim() - 2)),
        local_kernel=local_kernel,
        window_kernel=torch.einsum("re,e...->r...", window, extended),
        local_offset=offset,
        window_offset=window.reshape(len(window), len(quiet), -1).sum(dim=2)
        @ offset[: len(quiet)],
        energies=torch.cat([energies, more_energies]),
        empty=empty,
    )


def _without_empty(
    directions: Tensor, energies: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """
    The quietest directions, their energies, and those that ID images leave empty to rounding, as
    grey images do with differences between colours: these say nothing of how quiet images are.
    """
    empty = energies <= _EMPTY
    if bool(empty.all()):  # of flat images nothing else would be left
        empty = torch.zeros_like(empty)
    return directions[~empty][:count], energies[~empty][:count], directions[empty]


def _window_directions(maps: Tensor, windows: Windows) -> int:
    """How many local directions take part in the search among neighbourhoods."""
    vectors = len(maps) * math.prod(windows.count(tuple(maps.shape[2:])))
    return max(1, vectors // (_FEWEST * int(3 ** (maps.dim() - 2))))


def _neighbourhood_covariance(
    maps: Tensor, order: Tensor, mean: Tensor, local: Tensor, windows: Windows
) -> Tensor:
    """Of the local responses in a window, :math:`M 3^d` of them; few samples at a time."""
    axes = maps.dim() - 2
    windows_in_all = math.prod(windows.count(tuple(maps.shape[2:]))) * len(maps)
    step, taken = max(1, windows_in_all // _VECTORS), 0
    total = local.new_zeros(len(local) * 3**axes, len(local) * 3**axes)
    for chosen in torch.split(order, _CHUNK):
        centred = maps[chosen].double() - mean.view(-1, *[1] * axes)
        responses = torch.einsum("mc,bc...->bm...", local, centred)
        # those that are taken before neighbours come together, which are 3^d times as much
        own = torch.arange(len(chosen), device=maps.device)
        parts = [torch.cat([*_spread(v, own, step)]) for v in windows.neighbours(responses)]
        rows = torch.stack(parts, dim=2).flatten(1)
        total += rows.T @ rows
        taken += len(rows)
    return total / taken


def _spread(maps: Tensor, order: Tensor, step: int) -> Iterator[Tensor]:
    """Vectors of channels at every ``step``-th of all positions of all samples, in parts."""
    flat = maps.flatten(2)
    count = flat.shape[2]
    places = torch.arange(0, len(flat) * count, step, device=maps.device)
    for part in torch.split(places, _PART):
        yield flat[order[part // count], :, part % count]


def _moments(vectors: Callable[[], Iterable[Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and covariance, in float64 of few vectors at a time."""
    sums = [(len(part), part.double().sum(dim=0)) for part in vectors()]
    count = sum(number for number, _ in sums)
    mean = torch.stack([total for _, total in sums]).sum(dim=0) / count
    covariance = mean.new_zeros(len(mean), len(mean))
    for part in vectors():
        centred = part.double() - mean
        covariance += centred.T @ centred
    return mean, covariance / count


def _gram(kernel: Tensor) -> Tensor:
    flat = kernel.flatten(1)
    return flat @ flat.T
