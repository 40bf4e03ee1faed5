"""
How white responses are in the flattest places of an image: white noise has one flat answer to
each of these features, whatever its strength.
"""

import math

import torch
from torch import Tensor

__all__ = ["whiteness"]

# shares of the positions that count as the flattest and as flat, and fewest of them
_FLATTEST, _FLATTER, _FEWEST = 0.3, 0.6, 8
# local directions that are read: all of a 3 x 3 kernel on 3 channels
_DIRECTIONS = 27
# a hundredth of an 8-bit step, the unit in here: what is flatter counts as flat. ONNX exporters
# drop the addition of numbers much smaller than 1.
_FLAT = 0.01 / 255
# responses beyond it tell nothing more, and sums of their squares would be infinite
_LARGEST = 1e6
# a direction with less of the energy than this counts as empty, and one with less than this share
# of the unit: rounding is all that a constant image has
_FAINT, _EMPTY = 1e-6, 0.01
# how much flatter the first place is taken to be than the last, and an energy beyond all
_TILT, _LAST = 0.01, 1e30


def whiteness(local: Tensor, around: Tensor, quiet: int, flat: Tensor | None = None) -> Tensor:
    """
    At the 30 % of the positions where the energy :math:`e` is least, the mean of :math:`z^2` over
    the quiet directions and over neighbours:

    - logarithms of the mean :math:`v` of :math:`z^2`, for each direction,
    - correlations of a quiet direction with itself one and two positions further along each axis,
      and one further along all axes,
    - logarithms of the kurtosis :math:`\\mathrm{mean}(z^4) / v^2` of quiet directions.

    At 60 % of them, correlations of :math:`z / \\sqrt e` between directions at a position, and of
    those in a window with each other: every position counts alike, as for the sign of :math:`z`.

    :param local: responses :math:`z` of the directions at a position, quietest first, where
        windows are, :math:`B \\times M \\times *P`
    :param around: those of the directions in a window, :math:`B \\times R \\times *P`
    :param quiet: number of local directions that count as quiet
    :param flat: which windows are constant, :math:`B \\times *P`; they are left out
    :return: features of shape :math:`B \\times F`, float64
    """
    local, around = (z.clamp(-_LARGEST, _LARGEST) / _FLAT for z in (local, around))
    read = torch.cat([local[:, :quiet], around], dim=1)
    # positions as rows: these are gathered whole, which is far faster than number by number
    parts = [read.flatten(2), local[:, quiet:_DIRECTIONS].flatten(2)]
    rows = torch.cat(parts, dim=1).transpose(1, 2).contiguous()
    singles = min(quiet, local.shape[1])
    of_window = list(range(singles, read.shape[1]))
    of_position = [*range(singles), *range(read.shape[1], rows.shape[2])]
    energies = _energies(read, flat)
    places, flattest = _flat_places(energies, flat)
    at_flat = _at(places, rows)
    here = at_flat[:, : flattest.shape[1]]
    squares = here.square()
    weights = 1 / (energies.gather(1, places) + 1)
    weighted = at_flat * weights.sqrt().to(at_flat)[:, :, None]
    faint = _FAINT + _EMPTY * weights.mean(dim=1)
    variances = (squares.mean(dim=1).double() + 1).log() + 2 * math.log(_FLAT)
    seen = slice(read.shape[1])
    columns = [
        variances[:, [*of_position, *of_window]],
        *_correlations(weighted, faint, [of_position, of_window]),
        *_lagged(
            rows[:, :, seen], here[:, :, seen], squares[:, :, seen], flattest, read.shape[2:]
        ),
        _kurtosis(squares[:, :, seen]),
    ]
    return torch.cat(columns, dim=1)


def _energies(values: Tensor, flat: Tensor | None) -> Tensor:
    """Mean over directions and over neighbours that are not constant, :math:`B \\times P`."""
    # float64: rounding decides between positions that are nearly as flat
    energies = values.square().mean(dim=1, keepdim=True).double()
    counts = torch.ones_like(energies[:1]) if flat is None else (~flat[:, None]).double()
    sums = energies * counts
    for axis in range(2, energies.dim()):
        sums, counts = _with_neighbours(sums, axis), _with_neighbours(counts, axis)
    return (sums * (1 / counts.clamp_min(1))).flatten(1)


def _with_neighbours(values: Tensor, axis: int) -> Tensor:
    """Sums of a position and the two beside it, as far as they exist."""
    edge = torch.zeros_like(values.narrow(axis, 0, 1))
    rest = values.shape[axis] - 1
    before = torch.cat([edge, values.narrow(axis, 0, rest)], dim=axis)
    after = torch.cat([values.narrow(axis, 1, rest), edge], dim=axis)
    return values + before + after


def _flat_places(energies: Tensor, flat: Tensor | None) -> tuple[Tensor, Tensor]:
    """Indices of the flat positions and of the flattest, these first, :math:`B \\times n`."""
    size = energies.shape[1]
    least, less = (min(size, max(_FEWEST, int(s * size))) for s in (_FLATTEST, _FLATTER))
    # in stripes many are equally flat: in their order, else rounding chooses; constant ones last
    energies = energies + 1
    if flat is not None:
        flat = flat.flatten(1)
        energies = energies.masked_fill(flat, _LAST)
    tilt = 1 + torch.arange(size, device=energies.device) * (_TILT / size)
    order = (energies * tilt).topk(less, dim=1, largest=False).indices
    if flat is None:
        return order, order[:, :least]
    # of the others the same shares, again and again until there are as many
    others = (~flat).sum(dim=1, keepdim=True)
    shares = (others.double() * s for s in (_FLATTEST, _FLATTER))
    first, both = (
        torch.minimum(share.long().clamp_min(_FEWEST), others.clamp_min(1)) for share in shares
    )
    rest = (both - first).clamp_min(1)
    number = torch.arange(less, device=order.device)[None]
    wanted = torch.where(number < least, number % first, first + (number - least) % rest)
    places = order.gather(1, wanted.clamp_max(less - 1))
    return places, places[:, :least]


def _at(places: Tensor, rows: Tensor) -> Tensor:
    # no len(): it would fix the number of samples for exporters
    first = torch.arange(rows.shape[0], device=rows.device) * rows.shape[1]
    chosen = (places + first[:, None]).flatten()
    return rows.flatten(0, 1).index_select(0, chosen).reshape(*places.shape, rows.shape[2])


def _correlations(weighted: Tensor, faint: Tensor, kinds: list[list[int]]) -> list[Tensor]:
    """Of each pair of directions of a kind, over positions, about zero."""
    moments = (weighted.transpose(1, 2) @ weighted).double() * (1 / weighted.shape[1])
    deviations = (moments.diagonal(dim1=1, dim2=2) + faint[:, None]).sqrt()
    correlations = (moments / (deviations[:, :, None] * deviations[:, None, :])).flatten(1)
    count = weighted.shape[2]
    return [
        correlations[:, [one * count + other for one in kind for other in kind if other > one]]
        for kind in kinds
    ]


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


def _lagged(
    rows: Tensor, here: Tensor, squares: Tensor, places: Tensor, shape: tuple[int, ...]
) -> list[Tensor]:
    """Correlations of each direction with itself further on, as far as there is a further on."""
    found = []
    for lag in _lags(shape):
        inside = torch.ones(shape, device=rows.device, dtype=rows.dtype)
        distance = 0
        for axis, step in enumerate(lag):
            along = torch.arange(shape[axis], device=rows.device) < shape[axis] - step
            inside = inside * along.view(-1, *[1] * (len(shape) - 1 - axis))
            distance = distance * shape[axis] + step
        weight = inside.flatten()[places]
        further = (places + distance).clamp_max(rows.shape[1] - 1)
        there = _at(further, rows) * weight[:, :, None]
        product, other = (pair.sum(dim=1).double() for pair in (here * there, there.square()))
        own = (squares.transpose(1, 2) @ weight[:, :, None])[:, :, 0].double()
        floor = weight.sum(dim=1, keepdim=True).double().clamp_min(1)
        found.append(product / ((own + floor) * (other + floor)).sqrt())
    return found


def _kurtosis(squares: Tensor) -> Tensor:
    # both sides far above nothing: a direction that is empty has the kurtosis 1 and no more
    squares = squares + 1
    mean = squares.mean(dim=1, keepdim=True)
    return (squares / mean).square().mean(dim=1).double().log()
