"""
What intent needs of ID data: inputs of the layer, or where only its maps are known, what inputs
would give these.
"""

import torch
from torch import Tensor

from ...fitting import content_sample
from ...fitting.fitted import Statistics
from ...layer.linear.effective_convolution import EffectiveConvolution, Geometry
from ...layer.precision import full_precision
from .shapes import adjoint, forward

__all__ = ["layer_inputs", "least_values", "measure_inputs", "merge_inputs"]

# memory that the sample may take, and fewest samples
_SAMPLE_BYTES = 2**27
_FEWEST = 32
# steps of conjugate gradients, and the share of the first rest, squared, below which all is
# rounding: steps along that grow without bounds
_STEPS, _ROUNDING = 50, 1e-24


def measure_inputs(maps: Tensor, inputs: Tensor | None, size: int, seed: int) -> Statistics:
    """
    A sample of the layer's inputs, where they are known, else of its maps, chosen by content:
    ``inputs`` and ``input_priority``, or ``maps`` and ``maps_priority``.
    """
    kind, values = ("maps", maps) if inputs is None else ("inputs", inputs)
    priority = content_sample.priorities(values, seed)
    kept = content_sample.draw(priority, full_precision(values), _capacity(values, size))
    return {f"{kind}_priority": kept[0], kind: kept[1].clone()}


def merge_inputs(one: Statistics, other: Statistics, size: int) -> Statistics:
    """:return: what :func:`measure_inputs` would give on both"""
    merged: Statistics = {}
    for kind in ("inputs", "maps"):
        names = (f"{kind}_priority", kind)
        parts = [tuple(s[name] for name in names) for s in (one, other) if kind in s]
        if len(parts) == 2 and parts[0][1].shape[1:] != parts[1][1].shape[1:]:
            raise ValueError(
                f"All inputs of a fit must have one size, got {tuple(parts[0][1].shape[1:])} and "
                f"{tuple(parts[1][1].shape[1:])}. Resize or crop them to one size."
            )
        if len(parts) == 2:
            capacity = _capacity(parts[0][1], size)
            parts = [content_sample.merge(parts[0], parts[1], capacity)]  # type: ignore[arg-type]
        for part in parts:
            merged |= dict(zip(names, part, strict=True))
    return merged


def layer_inputs(conv: EffectiveConvolution, statistics: Statistics) -> Tensor:
    """
    :return: inputs of the layer that were kept, in an order of their own; those with the least
        norm that give the maps, where only maps are known
    """
    known = statistics.get("inputs")
    inputs = _before(conv, statistics["maps"]) if known is None else known
    energies = inputs.double().flatten(1).square().sum(dim=1)
    return inputs[energies.argsort(stable=True)]  # in an order of their own


def least_values(inputs: Tensor, statistics: Statistics) -> Tensor:
    """
    :return: least value of each channel: of all ID data where inputs were measured, otherwise of
        these
    """
    low = statistics["low"]
    channels = inputs.transpose(0, 1).flatten(1).double()
    return torch.where(torch.isfinite(low), low, channels.amin(dim=1).to(low))


def _capacity(values: Tensor, size: int) -> int:
    return min(size, max(_FEWEST, _SAMPLE_BYTES // (4 * values.shape[1:].numel())))


def _before(conv: EffectiveConvolution, maps: Tensor) -> Tensor:
    """Least squares by conjugate gradients on the normal equations, each sample by itself."""
    maps = maps.double() - conv.bias.to(maps).double().view(-1, *[1] * (maps.dim() - 2))
    shape = (conv.in_channels, *_sizes_before(conv.geometry, tuple(maps.shape[2:])))
    found = maps.new_zeros(len(maps), *shape)
    rest = adjoint(conv, maps, shape)
    step, size = rest, _dot(rest, rest)
    least = _ROUNDING * size
    for _ in range(_STEPS):
        image = forward(conv, step)
        length = size / _dot(image, image).clamp_min(1e-300)
        length = torch.where(size > least, length, 0.0)
        found = found + length * step
        rest = rest - length * adjoint(conv, image, shape)
        new = _dot(rest, rest)
        step = rest + new / size.clamp_min(1e-300) * step
        size = new
    return found


def _sizes_before(geometry: Geometry, maps: tuple[int, ...]) -> tuple[int, ...]:
    """The largest inputs that give maps of these sizes."""
    if geometry.input_shape is not None:
        return geometry.input_shape
    sides = zip(
        maps, geometry.stride, geometry.reaches, geometry.before, geometry.after, strict=True
    )
    return tuple(size * s - 1 + reach - b - a for size, s, reach, b, a in sides)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).flatten(1).sum(dim=1).view(-1, *[1] * (one.dim() - 1))
