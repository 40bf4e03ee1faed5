"""
A new detector, start to end
============================

``MeanDistance`` scores an input by how far its features are from the mean of the ID features. It
is as small as a detector can be that passes the contract; the comments say which check asks for
what. ``test_mean_distance.py`` next to this file runs the contract on it.
"""

# %%
# A detector picks the base class of what it reads: logits, features, feature maps or several
# layers. The base class gives ``predict(x)`` a twin, here ``predict_features(x)``.

from collections.abc import Callable

import torch
from pytorch_ood.api import (
    DetectorInfo,
    FeaturesDetector,
    ModelNotSetException,
    RequiresFittingException,
    Task,
)
from pytorch_ood.utils import extract_features, is_known
from torch import Tensor


class MeanDistance(FeaturesDetector):
    """
    Distance of the features :math:`z` to their mean :math:`\\mu` over the ID samples, in units of
    their standard deviation :math:`\\sigma`:

    .. math:: s(x) = \\left\\lVert \\frac{z - \\mu}{\\sigma + 10^{-6}} \\right\\rVert_p

    Larger scores speak for OOD.
    """

    # check 1: tasks that the detector supports; the paper if there is one
    info = DetectorInfo(tasks={Task.CLASSIFICATION})

    # check 2: predict raises before fit
    requires_fit = True

    # check 8: what GridSearch tries; each name is an attribute
    hyperparameter_space = {"order": [1.0, 2.0, 4.0]}  # noqa: RUF012 (as pytorch-ood has it)

    def __init__(self, encoder: Callable[[Tensor], Tensor] | None, order: float = 2.0):
        """
        :param encoder: makes features of shape :math:`B \\times D`; ``None`` to use features only
        :param order: order :math:`p \\geq 1` of the norm
        """
        self.encoder = encoder
        self.order = order
        self.mean: Tensor | None = None
        self.std: Tensor | None = None

    # check 8: set_hyperparameters assigns attributes, so a property refuses bad values for good
    @property
    def order(self) -> float:
        """Order of the norm."""
        return self._order

    @order.setter
    def order(self, value: float) -> None:
        if not isinstance(value, (int, float)) or not value >= 1:
            raise ValueError(f"order must be a number of at least 1, got {value!r}")
        self._order = value

    def fit(self, data_loader):
        """Fit to the features of the ID samples that the loader yields."""
        if self.encoder is None:  # check 2: the library's exception, not a TypeError
            raise ModelNotSetException
        features, labels = extract_features(data_loader, self.encoder, self.device or "cpu")
        return self.fit_features(features, labels)

    def fit_features(self, x: Tensor, y: Tensor):  # check 1: the names that the base class has
        """Fit to features of shape :math:`N \\times D`."""
        x = x[is_known(y)].float()  # check 3: no OOD samples; check 7: any precision
        if len(x) == 0:
            raise ValueError("No ID samples")
        std, mean = torch.std_mean(x, dim=0)
        if not mean.isfinite().all():
            raise ValueError("The features of the ID samples must be finite")
        self.mean, self.std = mean, std  # check 3: assigned last, a failed fit changes nothing
        return self

    @torch.no_grad()  # check 4: scores carry no gradient
    def predict(self, x: Tensor) -> Tensor:
        """Scores of shape :math:`B` for inputs."""
        if self.encoder is None:
            raise ModelNotSetException
        return self.predict_features(self.encoder(x))

    @torch.no_grad()
    def predict_features(self, x: Tensor) -> Tensor:
        """Scores of shape :math:`B` for features of shape :math:`B \\times D`."""
        if self.mean is None:
            raise RequiresFittingException
        return torch.linalg.vector_norm((x.float() - self.mean) / (self.std + 1e-6), self.order, 1)
