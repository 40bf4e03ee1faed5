"""
The effective convolution of any linear layer, from its own responses to impulses.
"""

import copy
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module

from ..manners import as_found
from ..precision import without_autocast
from .effective_convolution import EffectiveConvolution, Geometry

__all__ = ["impulse_response"]

# numbers of a batch of test inputs, or of its maps, at once
_ELEMENTS = 2**23
# what is smaller than this share of the largest response to an impulse is rounding
_SILENT = 1e-6
# deviation that rounding explains, as share of the largest response, and in units of a type's
# last digit where that is more
_TOLERANCE, _DIGITS = 1e-4, 4
# planes of the input that are tried at first, around its centre
_PLANES = 32

#: inputs to maps, any number of samples, float64
Respond = Callable[[Tensor], Tensor]


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
    label = type(layer).__name__
    with as_found(layer), without_autocast(inputs.device):
        respond, tolerance = _responder(layer, inputs)
        sample = inputs[:2].detach().double()
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(sample.shape, generator=generator, dtype=torch.float64)
        noise = noise.to(sample.device) * (float(sample.std(correction=0)) or 1.0)
        base = respond(torch.zeros_like(sample[:1]))
        _check_maps(label, inputs, base)
        _check_linear(label, respond, sample, noise, base, tolerance)
        geometry = _geometry(label, respond, base, tuple(sample.shape[1:]), generator)
        found = _kernel(respond, base, geometry, tuple(sample.shape[1:]))
        _check_equivariant(label, respond, found, torch.cat([sample, noise]), tolerance)
    return found


def _responder(layer: Module, inputs: Tensor) -> tuple[Respond, float]:
    """The layer as a function of float64, and the share of its responses that may be rounding."""
    zeros = torch.zeros_like(inputs[:1])
    try:  # some layers cannot be copied, or insist on a type
        exact = copy.deepcopy(layer).double()
        exact.forward(zeros.double())
        layer, dtype = exact, torch.float64
    except Exception:
        dtype = inputs.dtype
    most = max(zeros.numel(), layer.forward(zeros.to(dtype)).numel())

    def respond(x: Tensor) -> Tensor:
        parts = torch.split(x.to(dtype), max(1, _ELEMENTS // most))
        return torch.cat([layer.forward(part).double() for part in parts])

    return respond, max(_TOLERANCE, _DIGITS * torch.finfo(dtype).eps)


def _check_maps(label: str, inputs: Tensor, base: Tensor) -> None:
    if base.dim() != inputs.dim():
        raise RuntimeError(
            f"ViyogResidue reads maps of shape (B, C, *S), but {label} gives "
            f"{tuple(base.shape)} for inputs of shape {(1, *inputs.shape[1:])}. Name a layer "
            f"whose output has the input's axes by layer=..., before it is flattened to tokens."
        )


def _check_linear(
    label: str, respond: Respond, one: Tensor, other: Tensor, base: Tensor, tolerance: float
) -> None:
    parts = respond(one) - base, respond(other) - base
    largest = max(float(part.abs().max()) for part in parts)
    if not largest > 0:
        raise RuntimeError(f"{label} gives the same maps for every input: nothing can be read.")
    deviation = float((respond(one + other) - base - parts[0] - parts[1]).abs().max()) / largest
    if not deviation <= tolerance:  # NaN neither
        raise RuntimeError(
            f"ViyogResidue needs a linear layer, but {label} is not: its response to the sum of "
            f"two inputs deviates from the sum of its responses by {deviation:.2g} of the "
            f"largest. Name a layer before the first activation by layer=..."
        )


# -- geometry: which inputs each position of the maps depends on ------------------------------


def _geometry(
    label: str,
    respond: Respond,
    base: Tensor,
    shape: tuple[int, ...],
    generator: torch.Generator,
) -> Geometry:
    axes = []
    for axis, (inputs, maps) in enumerate(zip(shape[1:], base.shape[2:], strict=True)):
        for planes in _central_ranges(inputs):
            depends = _dependence(respond, base, shape, axis, planes, generator)
            found = _pattern(depends, planes, inputs)
            if found is not None:
                break
        else:
            raise RuntimeError(
                f"{label} is not shift-equivariant along spatial axis {axis}: no two neighbouring "
                f"positions of its maps (of {maps}) see the same of the input ({inputs} wide), "
                f"shifted. Name a convolution by layer=..., or use larger inputs."
            )
        kernel_size, stride, dilation, before = found
        reach = dilation * (kernel_size - 1) + 1
        after = (maps - 1) * stride - before + reach - inputs
        axes.append((kernel_size, stride, dilation, before, after))
    kernel_sizes, strides, dilations, befores, afters = zip(*axes, strict=True)
    return Geometry(kernel_sizes, strides, dilations, befores, afters, shape[1:])


def _central_ranges(size: int) -> list[range]:
    """Ranges around the centre, each twice as wide as the one before, up to all."""
    widths = [_PLANES * 2**i for i in range(max(0, math.ceil(math.log2(size / _PLANES))))]
    return [range((size - width) // 2, (size + width) // 2) for width in widths] + [range(size)]


def _dependence(
    respond: Respond,
    base: Tensor,
    shape: tuple[int, ...],
    axis: int,
    planes: range,
    generator: torch.Generator,
) -> Tensor:
    """Whether positions of the maps along an axis respond to planes across it: P × S, boolean."""
    rows = []
    for plane in planes:
        x = base.new_zeros(1, *shape)
        part = x.select(axis + 2, plane)
        part.copy_(torch.randn(part.shape, generator=generator, dtype=x.dtype))
        response = (respond(x) - base).abs()
        rows.append(response.movedim(axis + 2, 0).flatten(1).amax(dim=1))
    strengths = torch.stack(rows)
    return strengths > _SILENT * strengths.max()


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


def _kernel(
    respond: Respond, base: Tensor, geometry: Geometry, shape: tuple[int, ...]
) -> EffectiveConvolution:
    """
    One impulse for each weight, many at once: each is read at a position of its own, and these
    are so far apart that none sees the impulse of another.
    """
    channels, *sizes = shape
    grid = zip(geometry.interior(tuple(sizes)), geometry.reaches, geometry.stride, strict=True)
    places = _all_places([p[:: math.ceil(reach / stride)] for p, reach, stride in grid])
    weights = _all_places([range(size) for size in (channels, *geometry.kernel_size)])
    starts = places * torch.tensor(geometry.stride) - torch.tensor(geometry.before)
    bias = base.movedim(1, -1)[0][tuple(places[0])]
    columns = []
    for group in torch.split(weights, len(places)):
        x = base.new_zeros(1, *shape)
        inputs = starts[: len(group)] + group[:, 1:] * torch.tensor(geometry.dilation)
        x[0][torch.cat([group[:, :1], inputs], dim=1).unbind(dim=1)] = 1.0
        responses = (respond(x) - base)[0].movedim(0, -1)
        columns.append(responses[places[: len(group)].unbind(dim=1)].T)
    kernel = torch.cat(columns, dim=1).reshape(len(bias), channels, *geometry.kernel_size)
    return EffectiveConvolution(kernel, bias, geometry)


def _all_places(positions: list[range]) -> Tensor:
    """All combinations of positions along each axis, the last varying fastest: P × d."""
    return torch.tensor(list(itertools.product(*positions)))


def _check_equivariant(
    label: str, respond: Respond, found: EffectiveConvolution, x: Tensor, tolerance: float
) -> None:
    actual = respond(x)
    for axis, positions in enumerate(found.geometry.interior(tuple(x.shape[2:])), 2):
        actual = actual.narrow(axis, positions.start, len(positions))
    bias = found.bias.view(-1, *[1] * (x.dim() - 2))
    deviation = float((found.inside(x) - actual).abs().max() / (actual - bias).abs().max())
    if not deviation <= tolerance:
        raise RuntimeError(
            f"ViyogResidue needs a shift-equivariant layer, but {label} is not: away from the "
            f"border, its maps deviate from the convolution that its response to impulses shows "
            f"by {deviation:.2g} of the largest response. Name another layer by layer=..."
        )
