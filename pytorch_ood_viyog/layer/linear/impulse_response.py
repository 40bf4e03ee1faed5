"""
The effective convolution of any linear layer, from its own responses to impulses.
"""

import copy
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Module

from ..finding.composed import Stem
from ..manners import as_found
from ..precision import without_autocast
from .effective_convolution import EffectiveConvolution, Geometry

__all__ = ["impulse_response"]

# numbers of a batch of test inputs, or of its maps, at once
_ELEMENTS = 2**23
# responses smaller than this share of the largest are none
_SILENT = 1e-6
# deviation that rounding explains, as share of the largest response (some layers compute their
# weights in float32 whatever they are told), and in units of a type's last digit
_TOLERANCE, _DIGITS = 1e-4, 4
# planes of the input that are tried at first, around its centre
_PLANES = 32


@torch.no_grad()
def impulse_response(layer: Module, inputs: Tensor) -> EffectiveConvolution:
    """
    Ask a layer itself which convolution it is. Impulses show, along each axis, which inputs each
    position of the maps depends on: kernel size, stride, dilation and padding; then the kernel
    itself. Real and random inputs confirm that this is all that the layer does.

    A copy of the layer in float64 is asked where it can be had, else the layer itself; either way
    the layer stays as it was.

    :param layer: the layer
    :param inputs: some of its inputs, :math:`B \\times C_{in} \\times *S_{in}`; the geometry is
        that for inputs of this shape
    :return: kernel, bias and geometry
    :raises RuntimeError: if the layer is not affine, or not shift-equivariant away from the
        border, with what was found
    """
    with as_found(layer), without_autocast(inputs.device):
        asked = _Asked(layer, inputs)
        sample = inputs[:2].detach().double()
        noise = asked.noise(sample.shape) * (float(sample.std(correction=0)) or 1.0)
        _check_linear(asked, sample, noise)
        found = _kernel(asked, _geometry(asked))
        _check_equivariant(asked, found, torch.cat([sample, noise]))
    return found


class _Asked:
    """A layer as a function of float64, without its constant part."""

    def __init__(self, layer: Module, inputs: Tensor):
        self.label = type(layer).__name__
        #: of one input, :math:`C_{in} \\times *S_{in}`
        self.shape = tuple(inputs.shape[1:])
        self._layer, self._dtype = _exact(layer, inputs)
        self._generator = torch.Generator().manual_seed(0)
        self._most = inputs[0].numel()
        zeros = torch.zeros_like(inputs[:1])
        #: maps of zeros, :math:`1 \\times C \\times *S`
        self.base = self._maps(zeros.double())
        self._most = max(self._most, self.base.numel())
        if self.base.dim() != inputs.dim():
            raise RuntimeError(
                f"ViyogResidue reads maps of shape (B, C, *S), but {self.label} gives "
                f"{tuple(self.base.shape)} for inputs of shape {(1, *self.shape)}. Name a layer "
                f"whose output has the input's axes by layer=..., before it is flattened to "
                f"tokens."
            )

    def respond(self, x: Tensor) -> Tensor:
        """:return: maps of any number of inputs, float64, less those of zeros"""
        return self._maps(x) - self.base

    def noise(self, shape: Sequence[int]) -> Tensor:
        """:return: standard normal numbers, float64"""
        values = torch.randn(shape, generator=self._generator, dtype=torch.float64)
        return values.to(self.base.device)

    @property
    def rounding(self) -> float:
        """What the last digits of the layer's own type amount to, as a share of a response."""
        return _DIGITS * torch.finfo(self._dtype).eps

    @property
    def tolerance(self) -> float:
        """Deviation from a convolution that rounding explains, as a share of a response."""
        return max(_TOLERANCE, self.rounding)

    def _maps(self, x: Tensor) -> Tensor:
        parts = torch.split(x.to(self._dtype), max(1, _ELEMENTS // self._most))
        return torch.cat([self._layer.forward(part).double() for part in parts])


def _exact(layer: Module, inputs: Tensor) -> tuple[Module, torch.dtype]:
    """A copy in float64; of layers that cannot be copied or insist on a type, themselves."""
    if isinstance(layer, Stem):  # a copy would be one of the whole model
        return layer, inputs.dtype
    try:
        exact = copy.deepcopy(layer).double()
        exact.forward(torch.zeros_like(inputs[:1]).double())
    except Exception:
        return layer, inputs.dtype
    return exact, torch.float64


def _check_linear(asked: _Asked, one: Tensor, other: Tensor) -> None:
    parts = asked.respond(one), asked.respond(other)
    largest = max(float(part.abs().max()) for part in parts)
    if not largest > 0:
        raise RuntimeError(
            f"{asked.label} gives the same maps for every input: nothing can be read. Name "
            f"another layer by layer=..."
        )
    deviation = float((asked.respond(one + other) - parts[0] - parts[1]).abs().max()) / largest
    if not deviation <= asked.tolerance:  # NaN neither
        raise RuntimeError(
            f"ViyogResidue needs a linear layer, but {asked.label} is not: its response to the "
            f"sum of two inputs deviates from the sum of its responses by {deviation:.2g} of the "
            f"largest. Name a layer before the first activation by layer=..."
        )


# -- geometry: which inputs each position of the maps depends on ------------------------------


def _geometry(asked: _Asked) -> Geometry:
    axes = []
    sizes = zip(asked.shape[1:], asked.base.shape[2:], strict=True)
    for axis, (inputs, maps) in enumerate(sizes):
        for planes in _central_ranges(inputs):
            found = _pattern(_dependence(asked, axis, planes), planes, inputs)
            if found is not None:
                break
        else:
            raise RuntimeError(
                f"{asked.label} is not shift-equivariant along spatial axis {axis}: no two "
                f"neighbouring positions of its maps (of {maps}) see the same of the input "
                f"({inputs} wide), shifted. Name a convolution by layer=..., or use larger inputs."
            )
        kernel_size, stride, dilation, before = found
        reach = dilation * (kernel_size - 1) + 1
        after = (maps - 1) * stride - before + reach - inputs
        axes.append((kernel_size, stride, dilation, before, after))
    kernel_sizes, strides, dilations, befores, afters = zip(*axes, strict=True)
    return Geometry(kernel_sizes, strides, dilations, befores, afters, asked.shape[1:])


def _central_ranges(size: int) -> list[range]:
    """Ranges around the centre, each twice as wide as the one before, up to all."""
    widths = [_PLANES * 2**i for i in range(max(0, math.ceil(math.log2(size / _PLANES))))]
    return [range((size - width) // 2, (size + width) // 2) for width in widths] + [range(size)]


def _dependence(asked: _Asked, axis: int, planes: range) -> Tensor:
    """Whether positions of the maps along an axis respond to planes across it: P × S, boolean."""
    rows = []
    for plane in planes:
        x = asked.base.new_zeros(1, *asked.shape)
        part = x.select(axis + 2, plane)
        part.copy_(asked.noise(part.shape))
        response = asked.respond(x).abs()
        rows.append(response.movedim(axis + 2, 0).flatten(1).amax(dim=1))
    strengths = torch.stack(rows)
    rounding = asked.rounding * asked.base.abs().max()
    return strengths > torch.maximum(_SILENT * strengths.max(), rounding)


def _pattern(depends: Tensor, planes: range, size: int) -> tuple[int, int, int, int] | None:
    """
    Kernel size, stride, dilation and padding before, from two neighbouring positions that see the
    same pattern, shifted; of all such pairs, one that sees most.
    """
    seen = []
    for column in depends.T:
        taps = [planes[i] for i in column.nonzero().flatten().tolist()]
        # what lies beyond the planes that were tried is not known
        open_ended = (planes[0] > 0 and planes[0] in taps) or (
            planes[-1] < size - 1 and planes[-1] in taps
        )
        seen.append([] if open_ended else taps)
    best = None
    for position, (taps, following) in enumerate(itertools.pairwise(seen)):
        if not taps or len(taps) != len(following):
            continue
        shifts = {b - a for a, b in zip(taps, following, strict=True)}
        if len(shifts) == 1 and min(shifts) > 0 and (best is None or len(taps) > len(best[1])):
            best = position, taps, min(shifts)
    if best is None:
        return None
    position, taps, stride = best
    dilation = math.gcd(*(tap - taps[0] for tap in taps)) or 1
    return (taps[-1] - taps[0]) // dilation + 1, stride, dilation, position * stride - taps[0]


# -- kernel -----------------------------------------------------------------------------------


def _kernel(asked: _Asked, geometry: Geometry) -> EffectiveConvolution:
    """
    One impulse for each weight, many at once: each is read at a position of its own, and these
    are so far apart that none sees the impulse of another.
    """
    channels, *sizes = asked.shape
    grid = zip(geometry.interior(tuple(sizes)), geometry.reaches, geometry.stride, strict=True)
    places = _all_places([p[:: math.ceil(reach / stride)] for p, reach, stride in grid])
    weights = _all_places([range(size) for size in (channels, *geometry.kernel_size)])
    starts = places * torch.tensor(geometry.stride) - torch.tensor(geometry.before)
    bias = asked.base.movedim(1, -1)[0][tuple(places[0])]
    columns = []
    for group in torch.split(weights, len(places)):
        x = asked.base.new_zeros(1, *asked.shape)
        inputs = starts[: len(group)] + group[:, 1:] * torch.tensor(geometry.dilation)
        x[0][torch.cat([group[:, :1], inputs], dim=1).unbind(dim=1)] = 1.0
        responses = asked.respond(x)[0].movedim(0, -1)
        columns.append(responses[places[: len(group)].unbind(dim=1)].T)
    kernel = torch.cat(columns, dim=1).reshape(len(bias), channels, *geometry.kernel_size)
    return EffectiveConvolution(kernel, bias, geometry)


def _all_places(positions: list[range]) -> Tensor:
    """All combinations of positions along each axis, the last varying fastest: P × d."""
    return torch.tensor(list(itertools.product(*positions)))


def _check_equivariant(asked: _Asked, found: EffectiveConvolution, x: Tensor) -> None:
    actual = asked.respond(x) + asked.base
    for axis, positions in enumerate(found.geometry.interior(asked.shape[1:]), 2):
        actual = actual.narrow(axis, positions.start, len(positions))
    bias = found.bias.view(-1, *[1] * (x.dim() - 2))
    deviation = float((found.inside(x) - actual).abs().max() / (actual - bias).abs().max())
    if not deviation <= asked.tolerance:
        raise RuntimeError(
            f"ViyogResidue needs a shift-equivariant layer, but {asked.label} is not: away from "
            f"the border, its maps deviate from the convolution that its response to impulses "
            f"shows by {deviation:.2g} of the largest response. Name another layer by layer=..."
        )
