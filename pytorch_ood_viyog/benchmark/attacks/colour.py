"""
Colour attack: the smallest change of hue or saturation that changes the answer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["ColourShift"]

_HUES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_SATURATIONS = (1.5, 0.6, 2.0, 0.3, 3.0, 0.0)


@dataclass(frozen=True)
class ColourShift:
    """
    Turns the hue by up to a half circle or scales the saturation by 0 to 3, in growing steps,
    until the class changes (after Hosseini and Poovendran, *Semantic Adversarial Examples*,
    2018). No pixel is perturbed by itself. Needs torchvision.
    """

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, 3, H, W) in [0, 1]
        :param y: labels (B,)
        :return: images of other colours, unchanged where no step changes the class
        :raises ImportError: if torchvision is not installed
        """
        try:
            from torchvision.transforms.functional import adjust_hue, adjust_saturation
        except ImportError as error:
            raise ImportError(
                "ColourShift needs torchvision: pip install 'pytorch-ood-viyog[examples]'"
            ) from error
        hues = [(adjust_hue, sign * hue) for hue in _HUES for sign in (1, -1)]
        changes = [*hues, *((adjust_saturation, factor) for factor in _SATURATIONS)]
        shifted = x.clone()
        for change, amount in changes:
            open_ = (model(shifted).argmax(dim=1) == y).nonzero().squeeze(1)
            if len(open_) == 0:
                break
            shifted[open_] = change(x[open_], amount)
        fooled = model(shifted).argmax(dim=1) != y
        return torch.where(fooled[:, None, None, None], shifted, x)
