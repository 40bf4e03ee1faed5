"""
What the weights of a plain convolution allow without running all of it: single filters, the shape
of its output, and full precision where the model computes with less.
"""

from torch import Tensor
from torch.nn import Conv1d, Conv2d, Conv3d

from .convolution import CONVOLUTIONS, Convolution
from .first_layer import LayerCall
from .precision import autocast_enabled, full_precision, precise, without_autocast

__all__ = ["exact_maps", "maps_of_channels", "plain_convolution"]

_FORWARDS = (Conv1d.forward, Conv2d.forward, Conv3d.forward)
_OPERATIONS = (Conv1d._conv_forward, Conv2d._conv_forward, Conv3d._conv_forward)


def plain_convolution(call: LayerCall) -> Convolution | None:
    """
    :param call: the moment that a layer runs
    :return: the layer, if weight and bias tell all that it does to this input; ``None`` if it is
        no convolution, computes in its own way, or would refuse the input
    """
    layer, inputs = call.layer, call.input
    if not isinstance(layer, CONVOLUTIONS) or "forward" in vars(layer):
        return None
    kind = type(layer)
    if kind.forward not in _FORWARDS or kind._conv_forward not in _OPERATIONS:
        return None
    same_type = inputs.dtype == layer.weight.dtype
    if not inputs.is_floating_point() or not (same_type or autocast_enabled(inputs.device)):
        return None
    return layer if inputs.shape[1] == layer.in_channels else None


def maps_of_channels(conv: Convolution, inputs: Tensor, channels: Tensor) -> Tensor:
    """
    :param conv: the convolution, without groups
    :param inputs: its input, :math:`B \\times C_{in} \\times *S_{in}`
    :param channels: indices of :math:`D` channels
    :return: raw maps of these channels, :math:`B \\times D \\times *S`; no others are computed
    """
    bias = None if conv.bias is None else conv.bias[channels]
    maps: Tensor = conv._conv_forward(inputs, conv.weight[channels], bias)
    return maps


def exact_maps(call: LayerCall) -> Tensor:
    """
    :param call: the moment that a layer runs
    :return: its raw maps in float32 or better, from the layer's input where the model itself
        computes the maps in less (half-precision weights, autocast, TF32)
    """
    conv = plain_convolution(call)
    inputs = precise(call.input)
    if conv is None or (inputs is call.input and not autocast_enabled(inputs.device)):
        return call.maps()
    bias = None if conv.bias is None else precise(conv.bias)
    with without_autocast(inputs.device):
        maps: Tensor = conv._conv_forward(inputs, precise(conv.weight), bias)
        return maps.to(full_precision(call.input).dtype)
