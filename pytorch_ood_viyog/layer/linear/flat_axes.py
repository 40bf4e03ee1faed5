"""
Axes along which a layer's maps have a single position: nothing can be compared along them.
"""

from dataclasses import astuple

from torch import Tensor

from .effective_convolution import EffectiveConvolution, Geometry

__all__ = ["maps_without_flat_axes", "without_flat_axes"]


def maps_without_flat_axes(maps: Tensor, axes: int) -> Tensor:
    """:return: maps of that many spatial axes, those of length 1 dropped first to last"""
    while maps.dim() - 2 > axes and 1 in maps.shape[2:]:
        maps = maps.squeeze(2 + list(maps.shape[2:]).index(1))
    return maps


def without_flat_axes(
    conv: EffectiveConvolution, inputs: Tensor | None, maps: Tensor
) -> tuple[EffectiveConvolution, Tensor | None, Tensor]:
    """
    Along an axis where the maps have one position, what the layer sees of its input goes to the
    channels; one axis stays.

    :return: the same layer, inputs and maps, without the axes along which the maps have length 1
    """
    while maps.dim() > 3 and 1 in maps.shape[2:]:
        axis = list(maps.shape[2:]).index(1)
        conv, inputs = _folded(conv, inputs, axis)
        maps = maps.squeeze(axis + 2)
    return conv, inputs, maps


def _folded(
    conv: EffectiveConvolution, inputs: Tensor | None, axis: int
) -> tuple[EffectiveConvolution, Tensor | None]:
    geometry = conv.geometry
    size = inputs.shape[axis + 2] if inputs is not None else _size(geometry, axis)
    places = [
        geometry.dilation[axis] * tap - geometry.before[axis]
        for tap in range(geometry.kernel_size[axis])
    ]
    seen = [tap for tap, place in enumerate(places) if 0 <= place < size]
    kernel = conv.kernel.movedim(axis + 2, 2)[:, :, seen].flatten(1, 2)
    if inputs is not None:
        inputs = inputs.movedim(axis + 2, 2)[:, :, [places[tap] for tap in seen]].flatten(1, 2)
    return EffectiveConvolution(kernel, conv.bias, _without(geometry, axis)), inputs


def _size(geometry: Geometry, axis: int) -> int:
    """Of an input that gives one position."""
    if geometry.input_shape is not None:
        return geometry.input_shape[axis]
    return geometry.reaches[axis] - geometry.before[axis] - geometry.after[axis]


def _without(geometry: Geometry, axis: int) -> Geometry:
    fields = (values and (*values[:axis], *values[axis + 1 :]) for values in astuple(geometry))
    return Geometry(*fields)
