"""
How ViyogResidue reads a perturbation: quiet directions at a position and in its neighbourhood.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layer.linear.effective_convolution import EffectiveConvolution, Geometry
from ..layer.linear.precise_convolution import convolve_differences
from ..layer.precision import accumulator_dtype
from .directions import quiet_directions
from .features import features
from .windows import Windows, extended_kernel

__all__ = ["Reader", "Reading", "Responses", "fit_reader"]

# rows of the covariance of a neighbourhood: more would take long to solve and bring nothing
_NEIGHBOURHOOD = 576
# vectors a covariance is estimated from, and fewest for each of its rows: with fewer, the quietest
# directions would be quiet by chance
_VECTORS, _FEWEST = 65536, 8
# samples at once
_CHUNK = 8


#: responses of the local directions, thinned out, and of those in a window,
#: :math:`B \\times R \\times P` each
Responses = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Reading:
    """What was read of a batch, for every detector that reads the same."""

    #: responses at positions and in windows
    responses: Responses
    #: where the windows are
    windows: Windows
    #: spatial shape of the maps
    shape: tuple[int, ...]
    #: robust summaries over space, :math:`B \\times F`
    features: Tensor
    #: gives the local responses at all positions
    read_local: Callable[[], Tensor]

    def around(self) -> Tensor:
        """:return: responses in windows, with their spatial axes"""
        around = self.responses[1]
        return around.reshape(*around.shape[:2], *self.windows.count_of(self.shape))

    def at_windows(self) -> Responses:
        """:return: responses where windows are, with their spatial axes"""
        counts = self.windows.count_of(self.shape)
        return self.windows.centres(self.read_local(), counts), self.around()


@dataclass(frozen=True)
class Reader:
    """Directions, as linear maps from feature maps, or from the layer's input, to responses."""

    #: mean of the maps on ID data, shape :math:`C`
    mean: Tensor
    #: directions at a position, quietest first, :math:`M \\times C`
    local: Tensor
    #: directions in the window around it, :math:`R \\times W \\times 3 \\times \\dots`, on the
    #: responses of the :math:`W` quietest local directions
    window: Tensor
    #: the local ones composed with the convolution, :math:`M \\times C_{in} \\times *K`
    local_kernel: Tensor
    #: those in a window composed with the convolution, :math:`R \\times C_{in} \\times *E`
    window_kernel: Tensor
    #: what the composed kernels leave out: bias and mean, shape :math:`M`
    local_offset: Tensor
    #: the same for the window, shape :math:`R`
    window_offset: Tensor
    #: natural energy per unit of noise gain of the :math:`M + R` directions
    energies: Tensor

    @property
    def local_medians(self) -> slice:
        """Where the medians of the local directions stand among the features."""
        read = min(len(self.window), len(self.local))
        return slice(read + len(self.window), 2 * read + len(self.window))

    @property
    def window_medians(self) -> slice:
        """Where the medians of the directions in a window stand among the features."""
        start = self.local_medians.stop
        return slice(start, start + len(self.window))

    def from_maps(self, maps: Tensor, windows: Windows) -> Responses:
        """
        :param maps: packed feature maps, :math:`B \\times C \\times *S`
        :param windows: where they are read
        :return: responses :math:`z`
        """
        local = self._local_of(maps)
        quiet = local[:, : self.window.shape[1]]
        weights = self.window.to(local).flatten(2).unbind(dim=2)
        parts = zip(weights, windows.neighbours(quiet), strict=True)
        around = torch.stack([weight @ values.flatten(2) for weight, values in parts])
        return windows.thinned(windows.positions(local)).flatten(2), around.sum(dim=0)

    def local_from_maps(self, maps: Tensor, windows: Windows) -> Tensor:
        """
        :param maps: packed feature maps, :math:`B \\times C \\times *S`
        :param windows: where they are read
        :return: responses of the local directions at all positions that are read one by one
        """
        return windows.positions(self._local_of(maps)).flatten(2)

    def _local_of(self, maps: Tensor) -> Tensor:
        # directions of little gain have large weights, which float32 would not cancel
        exact = accumulator_dtype(maps.device)
        centred = maps.to(exact) - self.mean.to(exact).view(-1, *[1] * (maps.dim() - 2))
        return torch.einsum("mc,bc...->bm...", self.local.to(exact), centred)

    def from_input(self, geometry: Geometry, field: Tensor, windows: Windows) -> Responses:
        """
        :param geometry: grid of the layer
        :param field: the part of the layer's input that the windows see
        :param windows: where it is read
        :return: responses :math:`z`
        """
        local, around = self._linear(geometry, field, windows)
        return (
            local + self.local_offset.to(field.dtype)[:, None],
            around + self.window_offset.to(field.dtype)[:, None],
        )

    def local_from_input(self, geometry: Geometry, field: Tensor, windows: Windows) -> Tensor:
        """
        :param geometry: grid of the layer
        :param field: the part of the layer's input that the windows see
        :param windows: where it is read
        :return: responses of the local directions at all positions that are read one by one
        """
        own = windows.positions_field(geometry, field)
        stride = windows.input_stride(geometry)
        local = convolve_differences(own, self.local_kernel, stride, geometry.dilation)
        return local.flatten(2) + self.local_offset.to(field.dtype)[:, None]

    def _linear(self, geometry: Geometry, field: Tensor, windows: Windows) -> Responses:
        stride = windows.input_stride(geometry)
        own = windows.positions_field(geometry, field)
        sparse = tuple(a * b for a, b in zip(stride, windows.spread, strict=True))
        local = convolve_differences(own, self.local_kernel, sparse, geometry.dilation)
        around = self.around_residue(geometry, field, windows)
        return local.flatten(2), around.flatten(2)

    def of_residue(self, geometry: Geometry, residue: Tensor, windows: Windows) -> Responses:
        """
        :param geometry: grid of the layer
        :param residue: what is added to the part of the layer's input that the windows see
        :param windows: where it is read
        :return: what it adds to the responses
        """
        return self._linear(geometry, residue, windows)

    def around_residue(self, geometry: Geometry, residue: Tensor, windows: Windows) -> Tensor:
        """
        :param geometry: grid of the layer
        :param residue: what is added to the part of the layer's input that the windows see
        :param windows: where it is read
        :return: what it adds to the responses in windows, with their spatial axes
        """
        stride = windows.input_stride(geometry)
        return convolve_differences(residue, self.window_kernel, stride, (1,) * len(stride))

    def features(self, responses: Responses) -> Tensor:
        """
        :param responses: :math:`z`, in units of the input's dynamic range
        :return: what :func:`~pytorch_ood_viyog.residue.features.features` gives, shape
            :math:`B \\times F`
        """
        return features(*responses, one_by_one=len(self.window))


def fit_reader(
    conv: EffectiveConvolution, maps: Tensor, windows: Windows, scale: Tensor, count: int
) -> Reader:
    """
    Find the directions that ID images leave quiet, twice: among the channels at a position, and
    among the quietest of these directions in the position's neighbourhood. Neighbours matter for
    strided stems, whose filters see the finest detail only together.

    :param conv: what the layer does
    :param maps: packed maps of ID samples, :math:`K \\times C \\times *S`
    :param windows: where they are read
    :param scale: dynamic range of each input channel, shape :math:`C_{in}`
    :param count: number of directions of each kind
    :return: the reader
    """
    kernel = conv.kernel
    scale = scale.view(1, -1, *[1] * (kernel.dim() - 2))
    vectors = _rows(maps.movedim(1, -1).reshape(-1, maps.shape[1]))
    mean = vectors.mean(dim=0)
    gain = _gram(kernel * scale)
    most = max(count, _NEIGHBOURHOOD // 3 ** (maps.dim() - 2))
    local, energies = quiet_directions(_covariance(vectors - mean), gain, most)

    local_kernel = torch.einsum("mc,c...->m...", local, kernel)
    quiet = local[: _window_directions(maps, windows)]
    extended = extended_kernel(conv.geometry, local_kernel[: len(quiet)])
    around = _neighbourhood_covariance(maps, mean, quiet, windows)
    window, more_energies = quiet_directions(around, _gram(extended * scale), count)
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
    )


def _window_directions(maps: Tensor, windows: Windows) -> int:
    """How many local directions take part in the search among neighbourhoods."""
    vectors = len(maps) * math.prod(windows.count(tuple(maps.shape[2:])))
    return max(1, vectors // (_FEWEST * int(3 ** (maps.dim() - 2))))


def _neighbourhood_covariance(
    maps: Tensor, mean: Tensor, local: Tensor, windows: Windows
) -> Tensor:
    """Of the local responses in a window, :math:`M 3^d` of them; few samples at a time."""
    axes = maps.dim() - 2
    windows_in_all = math.prod(windows.count(tuple(maps.shape[2:]))) * len(maps)
    step, taken = max(1, windows_in_all // _VECTORS), 0
    total = local.new_zeros(len(local) * 3**axes, len(local) * 3**axes)
    for chunk in torch.split(maps, _CHUNK):
        centred = chunk.double() - mean.view(-1, *[1] * axes)
        responses = torch.einsum("mc,bc...->bm...", local, centred)
        values = torch.stack([v.flatten(2) for v in windows.neighbours(responses)], dim=2)
        rows = values.movedim(3, 1).reshape(-1, len(total))[::step]
        total += rows.T @ rows
        taken += len(rows)
    return total / taken


def _rows(vectors: Tensor) -> Tensor:
    return vectors[:: max(1, len(vectors) // _VECTORS)].double()


def _covariance(centred: Tensor) -> Tensor:
    return centred.T @ centred / len(centred)


def _gram(kernel: Tensor) -> Tensor:
    flat = kernel.flatten(1)
    return flat @ flat.T
