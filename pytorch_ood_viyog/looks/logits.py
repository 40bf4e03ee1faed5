"""
The answers of a model: its logits, picked out of whatever it returns.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..layer.first_layer import FirstLayer
from ..layer.layer_call import LayerCall
from ..layer.manners import answer_of, as_found, device_of, unwrap

__all__ = ["Answers", "PickLogits", "picked_logits", "usual_logits"]

PickLogits = Callable[[Any], Tensor]


def picked_logits(output: Any, pick: PickLogits | None, count: int, model: Module) -> Tensor:
    """
    :param output: what the model returned
    :param pick: picks the logits out of it; ``None`` takes the output itself, or its ``logits``
    :param count: number of samples :math:`B`
    :param model: the model, for the message
    :return: logits of shape :math:`B \\times C`, without gradients
    :raises TypeError: if they are not a tensor
    :raises ValueError: if they have another shape
    """
    logits = usual_logits(output) if pick is None else pick(output)
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"Logits must be a tensor, got {type(logits).__name__} from "
            f"{type(model).__name__}{_fields(output)}. Pass a function that picks them from the "
            f"model's output, such as logits=lambda output: output[0]."
        )
    if logits.dim() != 2 or len(logits) != count:
        raise ValueError(
            f"Logits must have the shape (B, C) with B = {count}, got {tuple(logits.shape)}. "
            f"Pass a function that picks them from the model's output by logits=..."
        )
    return logits.detach()


def usual_logits(output: Any) -> Any:
    """
    :return: the output, or what it calls logits, as the models of transformers do, or the only
        thing in it under any name, as long as that has a row a sample and a column a class
    """
    if isinstance(output, Tensor):
        return output
    entries = output if isinstance(output, Mapping) else {}
    only = [value for value in entries.values() if len(entries) == 1]
    alone = only[0] if only and isinstance(only[0], Tensor) and only[0].dim() == 2 else None
    found = getattr(output, "logits", entries.get("logits", alone))
    return found if isinstance(found, Tensor) else output


def _fields(output: Any) -> str:
    return f" with {sorted(map(str, output))}" if isinstance(output, Mapping) else ""


class Answers:
    """
    Asks a model for its logits, in evaluation mode, without gradients, and leaves it as found;
    a first layer can be read or changed on the way.
    """

    def __init__(
        self,
        model: Module,
        layer: str | Module | None = None,
        pick: PickLogits | None = None,
    ):
        """
        :param model: classifier, also wrapped in ``DataParallel``, ``DistributedDataParallel`` or
            ``torch.compile``
        :param layer: first layer; default is the first convolution that executes
        :param pick: picks the logits out of the model's output
        :raises ValueError: if the layer is not part of the model
        """
        self.model = model
        self.pick = pick
        self.first_layer = FirstLayer(model, layer)

    def logits(
        self,
        x: Tensor,
        *,
        read: Callable[[LayerCall], Any] | None = None,
        change: Callable[[LayerCall], Tensor] | None = None,
    ) -> Tensor:
        """
        :param x: batch of model inputs
        :param read: called inside the pass with the first layer, its input and its output
        :param change: gives an output that takes the place of the first layer's
        :return: logits of shape :math:`B \\times C`
        :raises TypeError: if the model's answers are not logits of one number a class
        :raises ValueError: if they do not have the shape :math:`B \\times C`
        """
        bare = unwrap(self.model)
        with ExitStack() as stack:
            stack.enter_context(as_found(bare))
            if change is not None:
                stack.enter_context(self.first_layer.replacing(x, change))
            if read is not None:
                stack.enter_context(self.first_layer.reading(x, read))
            output = answer_of(bare, x)
        logits = picked_logits(output, self.pick, len(x), bare)
        if logits.shape[1] < 2 or not logits.is_floating_point():
            raise TypeError(
                f"A second look compares the probabilities of classes, but "
                f"{type(bare).__name__} gives {logits.shape[1]} {logits.dtype} values a sample: "
                f"a regression has no answer that could change. Pass a function that picks "
                f"class logits from the model's output by logits=..."
            )
        return logits

    @property
    def device(self) -> torch.device:
        """Device of the model's parameters; the CPU for a model without any."""
        return device_of(self.model)
