"""FeatureSqueezing: the known baseline that compares answers to squeezed images."""

import torch
from pytorch_ood.api import Detector
from torch import Tensor, nn

from pytorch_ood_viyog.images.purifiers import purified_images
from pytorch_ood_viyog.looks import softmax_distance

_BITS, _STRENGTH = 5, 4 / 255


class FeatureSqueezing(Detector):
    """
    The largest distance between the softmax of the answers to an image and to squeezed ones:
    fewer bits a pixel, the median of 2×2 pixels, and non-local means (window 11, patch 3), as the
    authors recommend for colour images. Needs scikit-image, and no fit; larger for ADV, OOD too.

    :see: Xu, Evans and Qi, *Feature Squeezing: Detecting Adversarial Examples in Deep Neural
        Networks*, NDSS 2018
    """

    requires_fit = False

    def __init__(self, model: nn.Module) -> None:
        """:param model: classifier of images in [0, 1] in evaluation mode"""
        self.model = model

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: images (B, C, H, W) in [0, 1]
        :return: distances in [0, 2], shape (B,)
        """
        strengths, steps = torch.full(x.shape[:1], _STRENGTH), 2**_BITS - 1
        squeezed = [(x * steps).round() / steps]
        squeezed += [purified_images(name, x, strengths) for name in ("median", "nlm")]
        first = self.model(x)
        return torch.stack([softmax_distance(first, self.model(q)) for q in squeezed]).amax(dim=0)
