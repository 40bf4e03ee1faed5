"""
A classifier as attacks expect it: a module that returns one logit per class.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ...looks.logits import PickLogits, picked_logits

__all__ = ["PickedLogits", "checked_logits"]


class PickedLogits(nn.Module):
    """A classifier that returns anything, such as a dictionary, with what picks its logits."""

    def __init__(self, model: nn.Module, pick: PickLogits):
        super().__init__()
        self.model = model
        self.pick = pick
        self.training = model.training

    def forward(self, *inputs: Any) -> Tensor:
        """:return: logits (B, C)"""
        return self.pick(self.model(*inputs))


@torch.no_grad()
def checked_logits(model: nn.Module, x: Tensor) -> Tensor:
    """
    :param model: classifier in evaluation mode
    :param x: images
    :return: logits (B, C)
    :raises TypeError: if they are not a tensor
    :raises ValueError: if there is one number an image, or they have another shape
    """
    output = model(x)
    if isinstance(output, Tensor) and output.shape in ((len(x),), (len(x), 1)):
        raise ValueError(
            f"{type(model).__name__} gives one number an image, and a class is the largest of "
            f"several logits. Give it two, such as by logits=lambda z: "
            f"torch.cat([torch.zeros_like(z), z], 1), with z.logit() where z is a probability."
        )
    return picked_logits(output, None, len(x), model)
