"""
How ViyogResidue reads a perturbation: quiet directions at a position and in its neighbourhood,
and robust features of their responses.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .directions import quiet_directions
from .noise_response import Convolution, Windows, convolve, dense_kernel, extended_kernel

__all__ = ["Reader", "fit_reader", "pooled_features", "white_responses"]

# rows of the covariance of a neighbourhood: more would take long to solve and bring nothing
_NEIGHBOURHOOD = 576
# vectors a covariance is estimated from
_VECTORS = 65536
# a hundredth of an 8-bit step, squared: what is flatter counts as flat
_FLAT = (0.01 / 255) ** 2
# samples at once, for large and for small intermediate results
_FEW, _CHUNK = 8, 64


@dataclass(frozen=True)
class Reader:
    """Directions, as linear maps from feature maps, or from the layer's input, to responses."""

    #: mean of the maps on ID data, shape :math:`C`
    mean: Tensor
    #: directions at a position, quietest first, :math:`M \\times C`
    local: Tensor
    #: directions in the window around it, :math:`R \\times M \\times 3 \\times \\dots`
    window: Tensor
    #: both, composed with the convolution: :math:`2R \\times C_{in} \\times *E`
    kernel: Tensor
    #: what the composed kernels leave out: bias and mean, shape :math:`2R`
    offset: Tensor
    #: natural energy per unit of noise gain of the :math:`2R` directions
    energies: Tensor

    def from_maps(self, maps: Tensor, windows: Windows) -> Tensor:
        """
        :param maps: packed feature maps, :math:`B \\times C \\times *S`
        :param windows: where they are read
        :return: responses :math:`z` of shape :math:`B \\times 2R \\times P`
        """
        axes = maps.dim() - 2
        centred = maps - self.mean.to(maps.dtype).view(-1, *[1] * axes)
        local = torch.einsum("mc,bc...->bm...", self.local.to(maps.dtype), centred)
        steps = windows.packed_steps
        around = convolve(local, self.window.to(maps.dtype), steps)
        own = local[:, : len(self.window)]
        for axis, step in enumerate(steps, 2):  # the centres of the windows
            own = own.movedim(axis, 0)[1:-1:step].movedim(0, axis)
        return torch.cat([own, around], dim=1).flatten(2)

    def from_input(self, field: Tensor, stride: tuple[int, ...]) -> Tensor:
        """
        :param field: the part of the layer's input that the windows see
        :param stride: distance between windows there
        :return: responses :math:`z` of shape :math:`B \\times 2R \\times P`
        """
        responses = convolve(field, self.kernel.to(field.dtype), stride).flatten(2)
        return responses + self.offset.to(field.dtype)[:, None]


def fit_reader(
    conv: Convolution, maps: Tensor, windows: Windows, scale: Tensor, count: int
) -> Reader:
    """
    Find the directions that ID images leave quiet, twice: among the channels at a position, and
    among the quietest of these directions in the position's neighbourhood. Neighbours matter for
    strided stems, whose filters see the finest detail only together.

    :param conv: the convolution
    :param maps: packed maps of ID samples, :math:`K \\times C \\times *S`
    :param windows: where they are read
    :param scale: dynamic range of each input channel, shape :math:`C_{in}`
    :param count: number of directions of each kind
    :return: the reader
    """
    kernel = dense_kernel(conv)
    scale = scale.view(1, -1, *[1] * (kernel.dim() - 2))
    vectors = _rows(maps.movedim(1, -1).reshape(-1, maps.shape[1]))
    mean = vectors.mean(dim=0)
    gain = _gram(kernel * scale)
    most = max(count, _NEIGHBOURHOOD // 3 ** (maps.dim() - 2))
    local, energies = quiet_directions(_covariance(vectors - mean), gain, most)

    composed = torch.einsum("mc,c...->m...", local, kernel)
    extended = extended_kernel(conv, composed)
    around = _covariance(_neighbourhoods(maps, mean, local, windows))
    window, more_energies = quiet_directions(around, _gram(extended * scale), count)
    shape = (len(local), *[3] * (maps.dim() - 2))
    neighbours = 3 ** (maps.dim() - 2)
    own = extended[neighbours // 2 :: neighbours][:count]
    joint = torch.einsum("re,e...->r...", window, extended)
    bias = torch.zeros_like(mean) if conv.bias is None else conv.bias.detach().double()
    shift = local @ (bias - mean)
    return Reader(
        mean=mean,
        local=local,
        window=window.reshape(-1, *shape),
        kernel=torch.cat([own, joint]),
        offset=torch.cat(
            [shift[:count], window.reshape(len(window), len(local), -1).sum(dim=2) @ shift]
        ),
        energies=torch.cat([energies[:count], more_energies]),
    )


def white_responses(
    reader: Reader,
    stride: tuple[int, ...],
    windows: tuple[int, ...],
    samples: int,
    scale: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """
    Responses to a residue of random signs that spans the whole dynamic range; a residue of
    strength :math:`\\epsilon` adds :math:`\\epsilon` times these, as all of it is linear.

    :param reader: the directions
    :param stride: distance between windows on the layer's input
    :param windows: number of windows along each axis
    :param samples: number of samples
    :param scale: dynamic range of each input channel
    :param generator: source of the signs
    :return: responses of shape :math:`samples \\times 2R \\times P`, without offset
    """
    kernel = reader.kernel.float()
    sizes = [
        (count - 1) * step + reach
        for count, step, reach in zip(windows, stride, kernel.shape[2:], strict=True)
    ]
    amplitude = scale.float().view(-1, *[1] * len(sizes))
    responses = []
    for start in range(0, samples, _CHUNK):
        shape = (min(_CHUNK, samples - start), kernel.shape[1], *sizes)
        signs = torch.randint(0, 2, shape, generator=generator).to(kernel.device) * 2 - 1
        responses.append(convolve(signs * amplitude, kernel, stride).flatten(2))
    return torch.cat(responses)


def pooled_features(responses: Tensor) -> Tensor:
    """
    Robust summaries over space. The quantiles see the flat regions of an image, where texture
    cannot hide a residue; the mean sees all of it.

    .. math::
        f = \\ln (v + (0.01 / 255)^2), \\quad
        v \\in \\{ q_{10\\%}(z^2),\\ \\mathrm{median}(z^2),\\ \\mathrm{mean}(z^2) \\}

    :param responses: :math:`z`, in units of the input's dynamic range,
        :math:`B \\times R \\times P`
    :return: features of shape :math:`B \\times 3R`, float64
    """
    last = responses.shape[2] - 1
    # the two quantiles without sorting all positions
    quiet_half = _smallest(responses.abs(), round(0.5 * last) + 1)
    median = quiet_half.amax(dim=2)
    tenth = _smallest(quiet_half, round(0.1 * last) + 1).amax(dim=2)
    mean = responses.square().mean(dim=2)
    squares = torch.cat([tenth.double().square(), median.double().square(), mean.double()], dim=1)
    return (squares + _FLAT).log()


def _smallest(values: Tensor, count: int) -> Tensor:
    return values.topk(count, dim=2, largest=False, sorted=False).values


def _neighbourhoods(maps: Tensor, mean: Tensor, local: Tensor, windows: Windows) -> Tensor:
    """Local responses of all windows, one window a row: :math:`n \\times M 3^d`."""
    axes = maps.dim() - 2
    step = max(1, math.prod(windows.count(tuple(maps.shape[2:]))) * len(maps) // _VECTORS)
    vectors = []
    for chunk in torch.split(maps, _FEW):
        centred = chunk.double() - mean.view(-1, *[1] * axes)
        responses = torch.einsum("mc,bc...->bm...", local, centred)
        for axis, distance in enumerate(windows.packed_steps, 2):
            responses = responses.unfold(axis, 3, distance)
        rows = responses.movedim(1, 1 + axes).reshape(-1, len(local) * 3**axes)
        vectors.append(rows[::step])
    return torch.cat(vectors)


def _rows(vectors: Tensor) -> Tensor:
    return vectors[:: max(1, len(vectors) // _VECTORS)].double()


def _covariance(centred: Tensor) -> Tensor:
    return centred.T @ centred / len(centred)


def _gram(kernel: Tensor) -> Tensor:
    flat = kernel.flatten(1)
    return flat @ flat.T
