"""
What the weights of a plain convolution allow without running all of it: single filters, the shape
of its output, and full precision where the model computes with less.
"""

from functools import partial

import torch
from torch import Tensor

from ..convolution import Convolution
from ..layer_call import LayerCall
from ..precision import autocast_enabled, full_precision, precise, without_autocast
from .effective_convolution import EffectiveConvolution, Geometry, is_plain

__all__ = ["describes", "exact_maps", "maps_of_channels", "maps_shape", "plain_convolution"]


def plain_convolution(call: LayerCall) -> Convolution | None:
    """
    :return: the layer that runs, if weight and bias tell all that it does to this input; ``None``
        if it is no convolution, computes in its own way, or would refuse the input
    """
    layer, inputs = call.layer, call.input
    if not is_plain(layer) or not _takes(inputs, layer.weight.dtype):
        return None
    return layer if inputs.shape[1] == layer.in_channels else None


def describes(geometry: Geometry, call: LayerCall, channels: int) -> bool:
    """
    :return: whether the maps of a call with so many channels follow from its input by the
        geometry: if not, the layer is another, would refuse the input, or pads inputs of this size
        in another way
    """
    if geometry.input_shape is None:
        conv = plain_convolution(call)
        return conv is not None and Geometry.of(conv) == geometry
    weight = next(call.layer.parameters(), call.input)
    known = call.input.shape[1:] == (channels, *geometry.input_shape)
    return known and _takes(call.input, weight.dtype)


def maps_shape(conv: Convolution, inputs: Tensor) -> tuple[int, ...]:
    """:return: shape of the maps, :math:`B \\times C \\times *S`, which are not computed"""
    spatial = Geometry.of(conv).maps_shape(tuple(inputs.shape[2:]))
    return (inputs.shape[0], conv.out_channels, *spatial)


def maps_of_channels(conv: Convolution, inputs: Tensor, channels: Tensor) -> Tensor:
    """:return: raw maps of these channels, of no groups; no others are computed"""
    bias = None if conv.bias is None else conv.bias[channels]
    maps: Tensor = conv._conv_forward(inputs, conv.weight[channels], bias)
    return maps


def exact_maps(call: LayerCall, known: EffectiveConvolution | None = None) -> Tensor:
    """
    :param call: the moment that a layer runs
    :param known: what the layer does away from the border, where it is no plain convolution
    :return: its raw maps in float32 or better, from the layer's input where the model itself
        computes the maps in less (half-precision weights, autocast, TF32)
    """
    conv = plain_convolution(call)
    inputs = precise(call.input)
    compute = known.maps if known is not None else None
    if conv is not None:
        compute = partial(_run, conv)
    if compute is None or (inputs is call.input and not autocast_enabled(inputs.device)):
        return call.maps()
    with without_autocast(inputs.device):
        return compute(inputs).to(full_precision(call.input).dtype)


def _run(conv: Convolution, inputs: Tensor) -> Tensor:
    bias = None if conv.bias is None else precise(conv.bias)
    maps: Tensor = conv._conv_forward(inputs, precise(conv.weight), bias)
    return maps


def _takes(inputs: Tensor, dtype: torch.dtype) -> bool:
    """Whether a layer with weights of this type takes the inputs."""
    same_type = inputs.dtype == dtype
    return inputs.is_floating_point() and (same_type or autocast_enabled(inputs.device))
