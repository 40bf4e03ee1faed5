"""
What a detector knows of the layer that it reads: asked once, and again when its weights changed.
"""

from torch import Tensor
from torch.nn import Linear, Module

from ..convolution import CONVOLUTIONS
from ..finding.composed import Branches
from ..manners import as_found
from .effective_convolution import EffectiveConvolution, is_plain
from .impulse_response import impulse_response

__all__ = ["KnownLayer"]


class KnownLayer:
    """Remembers the effective convolution of a layer, which may take seconds to find."""

    def __init__(self) -> None:
        self._of: tuple[object, ...] | None = None
        self._found: EffectiveConvolution | None = None

    def describe(self, layer: Module, inputs: Tensor | None, maps: Tensor) -> EffectiveConvolution:
        """
        :param layer: the layer
        :param inputs: some of its inputs; ``None`` where only maps are known, then inputs of about
            the right size are made up for a convolution
        :param maps: what the layer gave for them
        :return: its effective convolution
        """
        if is_plain(layer):
            with as_found(layer):  # some compute their weights, and learn from it in training mode
                return EffectiveConvolution.of(layer)
        if isinstance(layer, Linear):
            raise RuntimeError(
                "A Linear layer on patches gives tokens, no maps: what it does to the image shows "
                "together with the cutting into patches. Name both by layer='input > NAME', NAME "
                "being the name of the Linear layer, where the model takes images."
            )
        if self._of != (marks := _marks(layer, inputs, maps)) or self._found is None:
            asked = _made_up(layer, maps) if inputs is None else inputs
            self._found = impulse_response(layer, asked)
            self._of = marks
        return self._found


def _marks(layer: Module, inputs: Tensor | None, maps: Tensor) -> tuple[object, ...]:
    """What changes when the layer does."""
    tensors = [*layer.parameters(), *layer.buffers()]
    versions = [(t.data_ptr(), None if t.is_inference() else t._version) for t in tensors]
    shape = maps.shape[1:] if inputs is None else inputs.shape[1:]
    return id(layer), inputs is None, shape, maps.device, maps.dtype, *versions


def _made_up(layer: Module, maps: Tensor) -> Tensor:
    conv = layer.convolutions[0] if isinstance(layer, Branches) else layer
    if not isinstance(conv, CONVOLUTIONS):
        raise RuntimeError(
            f"What {type(layer).__name__} does to its input cannot be told from maps alone. Call "
            f"fit(loader) with inputs first, or name a convolution by layer=..."
        )
    sizes = [size * stride for size, stride in zip(maps.shape[2:], conv.stride, strict=True)]
    weight = next(conv.parameters())
    return weight.new_zeros(1, conv.in_channels, *sizes)
