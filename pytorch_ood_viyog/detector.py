"""
The base of all first-layer detectors: what their scores mean and how they are asked for.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from .checks import check_finite, check_input, check_maps
from .first_layer import LayerCall
from .fitting import FittedOnMaps, Statistics, accumulator_dtype

__all__ = ["FirstLayerDetector", "Statistics", "accumulator_dtype"]


class FirstLayerDetector(FittedOnMaps):
    """
    Base class of detectors that read the raw output :math:`a` of the first convolution, shape
    :math:`B \\times C \\times *S` with one to three spatial dimensions.

    **Sign.** Scores are larger for adversarial (ADV) and smaller for out-of-distribution (OOD)
    inputs.

    A detector implements :meth:`_measure` (statistics of a batch of ID maps), :meth:`_conclude`
    (statistics to fitted state) and :meth:`_score`, and :meth:`_merge` where its statistics are
    not plain sums. Everything else is here: running the model up to the layer, streaming, labels,
    checks, and both pairs of names (``*_features`` and ``*_feature_maps``).
    """

    # -- what a detector adds ---------------------------------------------------------------

    @abstractmethod
    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Scores of checked maps, shape :math:`B`."""

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        """Scores at the layer; a detector that needs less than all maps overrides it."""
        return self._score(check_maps(call.maps(), self._layout), state)

    # -- predict ----------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """
        Score model inputs; the model runs only up to the first convolution, in evaluation mode.

        :param x: batch of model inputs, first dimension :math:`B`
        :return: scores of shape :math:`B`, larger for ADV
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises TypeError: if ``x`` is not a tensor
        :raises ValueError: if ``x`` or its feature maps are not finite, or have other channels
            than the detector was fitted on
        """
        first_layer, state = self._require_first_layer(), self._require_state()
        x = self._to_device(check_input(x))
        scores = first_layer.run(x, lambda call: self._score_call(call, state))
        check_finite("Input", x, scores)
        return scores

    @torch.no_grad()
    def predict_feature_maps(self, feature_maps: Tensor) -> Tensor:
        """
        Score first-layer feature maps that were extracted beforehand.

        :param feature_maps: raw outputs of the first convolution, shape
            :math:`B \\times C \\times *S`
        :return: scores of shape :math:`B`, larger for ADV
        :raises RequiresFittingException: if the detector is not fitted
        :raises TypeError: if the maps are not floating point
        :raises ValueError: if the maps are not finite, or have another rank or other channels
            than the detector was fitted on
        """
        state = self._require_state()
        scores = self._score(check_maps(feature_maps, self._layout), state)
        check_finite("Feature maps", feature_maps, scores)
        return scores

    def predict_features(self, maps: Tensor) -> Tensor:
        """The shorter name of :meth:`predict_feature_maps`."""
        scores: Tensor = self.predict_feature_maps(maps)
        return scores

    def __repr__(self) -> str:
        model = "None" if self.model is None else type(self.model).__name__
        settings = {"layer": self.layer_name or self.layer, **self.get_hyperparameters()}
        shown = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"{type(self).__name__}(model={model}, {shown}, fitted={self._is_fitted})"
