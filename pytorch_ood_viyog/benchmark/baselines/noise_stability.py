"""
NoiseStability: the simplest second look, through noise.
"""

from typing import ClassVar

import torch
from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from torch.nn import Module

from ...images.pixel_range import Bound, PixelRange
from ...layer.checks import check_count, check_number
from ...looks.answers import softmax_distance
from ...looks.logits import PickLogits
from ...looks.second_pass import SecondPass

__all__ = ["NoiseStability"]


class NoiseStability(SecondPass):
    """
    The mean distance between the model's answer to an input and its answers to the same with
    white noise :math:`\\delta_j`:

    .. math::
        s(x) = \\frac{1}{n} \\sum_{j=1}^{n} \\sum_k
            | \\mathrm{softmax}(l(x))_k - \\mathrm{softmax}(l(x + \\delta_j))_k |

    The noise is the same for all inputs, so that a score does not depend on the batch. Needs no
    fit, and :math:`n + 1` forward passes. A baseline.

    **Sign.** Larger scores speak for ADV; whatever lies near a decision boundary scores high.

    :see: the idea is that of Roth, Kilcher and Hofmann, *The Odds are Odd*, ICML 2019, without its
        statistics of each pair of classes
    """

    info = DetectorInfo(paper=None, tasks={Task.CLASSIFICATION}, ai_coded=True)

    #: Default search space for :class:`pytorch_ood.utils.GridSearch`.
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {
        "strength": [2 / 255, 4 / 255, 8 / 255]
    }

    def __init__(
        self,
        model: Module | None,
        *,
        strength: float = 8 / 255,
        draws: int = 4,
        pixel_range: tuple[Bound, Bound] = (0.0, 1.0),
        layer: str | Module | None = None,
        logits: PickLogits | None = None,
        seed: int = 0,
    ):
        """
        :param model: classifier; ``None`` where a pipeline gives it
        :param strength: standard deviation of the noise, as a fraction of the range
        :param draws: :math:`n`
        :param pixel_range: black and white of the inputs, one number each or one per channel
        :param layer: not read; taken as all detectors of this kind do
        :param logits: picks the logits out of the model's output
        :param seed: seed of the noise
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if a number is out of range
        """
        super().__init__(model, layer=layer, logits=logits)
        self.strength = strength
        self.draws = check_count("draws", draws, low=1)
        self.pixel_range = pixel_range
        self.seed = check_count("seed", seed, low=0)

    @property
    def strength(self) -> float:
        """Standard deviation of the noise, as a fraction of the range."""
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        self._strength = check_number("strength", value, 0.0, 1.0)

    def _score(self, x: Tensor, first: Tensor) -> Tensor:
        if len(x) == 0:
            return first.new_zeros(0, dtype=torch.float64)
        images = (pixels := PixelRange.of(x, self.pixel_range)).images(x)
        generator = torch.Generator().manual_seed(self.seed)
        distances = []
        for _ in range(self.draws):
            noise = torch.randn(x.shape[1:], generator=generator).to(x.device)
            noisy = pixels.inputs(images + self.strength * noise, x)
            answer = self._require_answers().logits(noisy)
            distances.append(softmax_distance(first, answer))
        return torch.stack(distances).mean(dim=0)
