"""
How white responses are in the flattest places of an image: white noise has one flat answer to
each of these features, whatever its strength.
"""

import math

import torch
from torch import Tensor

__all__ = ["whiteness"]

# share of the positions that count as the flattest, and fewest of them
_FLATTEST, _FEWEST = 0.3, 8
# local directions that are read: all of a 3 x 3 kernel on 3 channels
_DIRECTIONS = 27
# a hundredth of an 8-bit step, the unit in here: what is flatter counts as flat. ONNX exporters
# drop the addition of numbers much smaller than 1.
_FLAT = 0.01 / 255
# responses beyond it tell nothing more, and their fourth powers would be infinite
_LARGEST = 1e6


def whiteness(local: Tensor, around: Tensor, quiet: int) -> Tensor:
    """
    At the 30 % of the positions where :math:`z^2` is least, as mean over the quiet directions and
    over neighbours:

    - logarithms of the mean :math:`v` of :math:`z^2`, for each direction,
    - correlations between directions at a position, and of those in a window with each other,
    - correlations of a quiet direction with itself one and two positions further along each axis,
      and one further along all axes,
    - logarithms of the kurtosis :math:`\\mathrm{mean}(z^4) / v^2` of quiet directions.

    :param local: responses :math:`z` of the directions at a position, quietest first, where
        windows are, :math:`B \\times M \\times *P`
    :param around: those of the directions in a window, :math:`B \\times R \\times *P`
    :param quiet: number of local directions that count as quiet
    :return: features of shape :math:`B \\times F`, float64
    """
    local = local[:, :_DIRECTIONS].clamp(-_LARGEST, _LARGEST) / _FLAT
    around = around.clamp(-_LARGEST, _LARGEST) / _FLAT
    of_quiet = torch.cat([local[:, :quiet], around], dim=1)
    places = _flattest(of_quiet.square().mean(dim=1, keepdim=True))
    kinds = [_at(places, values) for values in (local, around)]
    here = torch.cat([kinds[0][:, :quiet], kinds[1]], dim=1)
    variances = torch.cat([values.square().mean(dim=2) for values in kinds], dim=1).double()
    columns = [
        (variances + 1).log() + 2 * math.log(_FLAT),
        *[_correlations(values) for values in kinds],
        *[_lagged(of_quiet, here, places, lag) for lag in _lags(tuple(of_quiet.shape[2:]))],
        _kurtosis(here),
    ]
    return torch.cat(columns, dim=1)


def _flattest(energies: Tensor) -> Tensor:
    """Indices of the flattest positions, :math:`B \\times 1 \\times n`."""
    # float64: rounding decides between positions that are nearly as flat
    sums, counts = energies.double(), torch.ones_like(energies[:1]).double()
    for axis in range(2, energies.dim()):
        sums, counts = _with_neighbours(sums, axis), _with_neighbours(counts, axis)
    means = (sums / counts).flatten(2)
    count = min(means.shape[2], max(_FEWEST, int(_FLATTEST * means.shape[2])))
    return means.topk(count, dim=2, largest=False, sorted=False).indices


def _with_neighbours(values: Tensor, axis: int) -> Tensor:
    """Sums of a position and the two beside it, as far as they exist."""
    edge = torch.zeros_like(values.narrow(axis, 0, 1))
    rest = values.shape[axis] - 1
    before = torch.cat([edge, values.narrow(axis, 0, rest)], dim=axis)
    after = torch.cat([values.narrow(axis, 1, rest), edge], dim=axis)
    return values + before + after


def _at(places: Tensor, values: Tensor) -> Tensor:
    flat = values.flatten(2)
    return flat.gather(2, places.expand(-1, flat.shape[1], -1))


def _correlations(values: Tensor) -> Tensor:
    """Of each pair of directions, over positions, about zero."""
    moments = (values @ values.transpose(1, 2)).double() / values.shape[2]
    deviations = (moments.diagonal(dim1=1, dim2=2) + 1).sqrt()
    correlations = moments / (deviations[:, :, None] * deviations[:, None, :])
    count = values.shape[1]
    above = [row * count + column for row in range(count) for column in range(row + 1, count)]
    return correlations.flatten(1)[:, above]


def _lags(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Steps of one and two along each axis, and of one along all; as far as there is room."""
    axes = len(shape)
    single = [
        tuple(step if other == axis else 0 for other in range(axes))
        for step in (1, 2)
        for axis in range(axes)
    ]
    steps = [*single, (1,) * axes] if axes > 1 else single
    return [
        lag for lag in steps if all(size > 2 * step for size, step in zip(shape, lag, strict=True))
    ]


def _lagged(values: Tensor, here: Tensor, places: Tensor, lag: tuple[int, ...]) -> Tensor:
    """Correlation of each direction with itself further on, as far as there is a further on."""
    shape = tuple(values.shape[2:])
    inside = torch.ones(shape, device=values.device, dtype=values.dtype)
    distance = 0
    for axis, step in enumerate(lag):
        size = shape[axis]
        along = torch.arange(size, device=values.device) < size - step
        inside = inside * along.view(-1, *[1] * (len(shape) - 1 - axis))
        distance = distance * size + step
    weight = inside.flatten()[places]
    further = (places + distance).clamp_max(math.prod(shape) - 1)
    there = _at(further, values) * weight
    here = here * weight
    product, own, other = (
        pair.sum(dim=2).double() for pair in (here * there, here.square(), there.square())
    )
    floor = weight.sum(dim=2).double().clamp_min(1)
    return product / ((own + floor) * (other + floor)).sqrt()


def _kurtosis(values: Tensor) -> Tensor:
    # both sides far above nothing: a direction that is empty has the kurtosis 1 and no more
    squares = values.square() + 1
    mean = squares.mean(dim=2).double()
    return (squares / mean.to(squares)[:, :, None]).square().mean(dim=2).double().log()
