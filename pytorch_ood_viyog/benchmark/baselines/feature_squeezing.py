"""
FeatureSqueezing: the known baseline that compares answers to squeezed images.
"""

from typing import ClassVar

import torch
from pytorch_ood.api import DetectorInfo, Paper, Task
from torch import Tensor
from torch.nn import Module

from ...images.pixel_range import Bound, PixelRange
from ...images.purifiers import purified_images
from ...layer.checks import check_count, check_number
from ...looks.answers import softmax_distance
from ...looks.logits import PickLogits
from ...looks.second_pass import SecondPass

__all__ = ["FeatureSqueezing"]


class FeatureSqueezing(SecondPass):
    """
    The largest distance between the model's answer to an image and its answers to squeezed ones:

    .. math::
        s(x) = \\max_j \\sum_k | \\mathrm{softmax}(l(x))_k - \\mathrm{softmax}(l(q_j(x)))_k |

    with three squeezers :math:`q_j`: fewer bits a pixel, the median of 2×2 pixels, and non-local
    means (window 11, patch 3), as the authors recommend for colour images. Needs no fit, and four
    forward passes.

    **Sign.** Larger scores speak for ADV; OOD inputs score high too.

    Needs scikit-image: ``pip install 'pytorch-ood-viyog[purify]'``.

    :see: Xu, Evans and Qi, *Feature Squeezing: Detecting Adversarial Examples in Deep Neural
        Networks*, NDSS 2018
    """

    info = DetectorInfo(
        paper=Paper(
            title="Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks",
            venue="NDSS",
            year=2018,
            url="https://arxiv.org/abs/1704.01155",
        ),
        tasks={Task.CLASSIFICATION},
        ai_coded=True,
    )

    #: Default search space for :class:`pytorch_ood.utils.GridSearch`.
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {"bits": [3, 4, 5]}

    def __init__(
        self,
        model: Module | None,
        *,
        bits: int = 5,
        strength: float = 4 / 255,
        pixel_range: tuple[Bound, Bound] = (0.0, 1.0),
        layer: str | Module | None = None,
        logits: PickLogits | None = None,
    ):
        """
        :param model: classifier; ``None`` where a pipeline gives it
        :param bits: bits a pixel and channel
        :param strength: strength of the non-local means, as a fraction of the range
        :param pixel_range: black and white of the inputs, one number each or one per channel
        :param layer: not read; taken as all detectors of this kind do
        :param logits: picks the logits out of the model's output
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if a number is out of range
        """
        super().__init__(model, layer=layer, logits=logits)
        self.bits = bits
        self.strength = check_number("strength", strength, 0.0, 1.0)
        self.pixel_range = pixel_range

    @property
    def bits(self) -> int:
        """Bits a pixel and channel."""
        return self._bits

    @bits.setter
    def bits(self, value: int) -> None:
        self._bits = check_count("bits", value, low=1)

    def _score(self, x: Tensor, first: Tensor) -> Tensor:
        if len(x) == 0:
            return first.new_zeros(0, dtype=torch.float64)
        pixels = PixelRange.of(x, self.pixel_range)
        images = pixels.images(x)
        strengths = torch.full(x.shape[:1], self.strength)
        steps = 2**self.bits - 1
        squeezed = (
            (images * steps).round() / steps,
            purified_images("median", images, strengths),
            purified_images("nlm", images, strengths),
        )
        answers = [self._require_answers().logits(pixels.inputs(q, x)) for q in squeezed]
        distances = [softmax_distance(first, answer) for answer in answers]
        return torch.stack(distances).amax(dim=0)
