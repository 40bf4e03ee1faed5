"""
The base of all first-layer detectors: what their scores mean and how they are asked for.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pytorch_ood.api import Paper, RequiresFittingException
from torch import Tensor
from typing_extensions import Self

from ..fitting.fitted import Statistics
from ..fitting.saving import differing_settings, load_state, saved_state
from ..fitting.streaming import FittedOnMaps
from ..images.kind import ImageKind, WayWarning
from ..layer.checks import check_finite, check_input, check_maps
from ..layer.layer_call import LayerCall
from ..layer.manners import warn_user

__all__ = ["KIND_SHAPES", "PAPER", "FirstLayerDetector"]

#: what statistics may hold of the kind of images, by :meth:`ImageKind.tensors`, and its shapes
KIND_SHAPES = {"seen": "3 I", "seen_size": "H"}

# levels of images are looked at in the first batches, then at one of so many images: a look takes
# up to a tenth of the time in which the fastest detector scores a batch
_FIRST, _APART = 8, 256

PAPER = Paper(
    title="Viyog: Separating Adversarial and Out-of-Distribution",
    venue="CODES+ISSS",
    year=2026,
    url="https://viyog.readthedocs.io",
    code="https://github.com/amanyagami/viyog",
)


class FirstLayerDetector(FittedOnMaps):
    """
    Base class of detectors that read the raw output :math:`a` of the first convolution, shape
    :math:`B \\times C \\times *S` with one to three spatial dimensions.

    **Sign.** Scores are larger for adversarial (ADV) and smaller for out-of-distribution (OOD)
    inputs.

    A detector implements :meth:`_measure` (statistics of a batch of ID maps), :meth:`_conclude`
    (statistics to fitted state) and :meth:`_score`, and :meth:`_merge` where its statistics are
    not plain sums. Everything else is here and in its bases.
    """

    # the kind of images of a fitted state, and the state whose user was warned
    _kind: tuple[dict[str, Tensor], ImageKind | None] | None = None
    _warned: dict[str, Tensor] | None = None
    _unlooked = 0

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
        :raises ValueError: if ``x`` or its maps are not finite, or have other channels than at fit
        """
        return self._read_at_layer(x, self._score_call)

    def _read_at_layer(
        self,
        x: Tensor,
        read: Callable[[LayerCall, dict[str, Tensor]], Tensor],
        reduce: Callable[[LayerCall, Tensor], Tensor] = LayerCall.largest,
    ) -> Tensor:
        """What ``read`` gives at the layer for each sample of checked inputs, by its rows."""
        first_layer, state = self._require_first_layer(), self._require_state()
        x = self._to_device(check_input(x))

        def read_call(call: LayerCall) -> Tensor:
            self._warn_of_other_kind(call.input, state)
            return reduce(call, read(call, state))

        values = first_layer.run(x, read_call)
        check_finite("Input", x, values)
        return values

    # -- the kind of images -----------------------------------------------------------------

    def _merge(self, one: Statistics, other: Statistics) -> Statistics:
        if "seen" not in one:
            return super()._merge(one, other)
        kinds = ImageKind.of_tensors(one), ImageKind.of_tensors(other)
        rest = [{n: t for n, t in each.items() if n not in KIND_SHAPES} for each in (one, other)]
        return super()._merge(*rest) | kinds[0].together(kinds[1]).tensors()

    def _kind_at_fit(self, state: dict[str, Tensor]) -> ImageKind | None:
        """What kind of images the layer's inputs were; ``None`` where that was not measured."""
        known = self._statistics or {}
        return ImageKind.of_tensors(known) if "seen" in known else None

    def _without_model(self) -> Self:
        bare = super()._without_model()
        bare._kind = bare._warned = None
        return bare

    def _warn_of_other_kind(self, inputs: Tensor, state: dict[str, Tensor]) -> None:
        """Once a fit, of inputs of the layer; few of many are looked at."""
        # a deployed detector has no state of its own
        if state is not self._state or self._warned is state or not len(inputs):
            return
        most = _FIRST * _APART
        if self._kind is None or self._kind[0] is not state:
            at_fit = self._kind_at_fit(state)
            self._kind = state, at_fit if at_fit is not None and at_fit.is_known else None
            self._unlooked = most
        known = self._kind[1]
        if known is None:
            return
        self._unlooked = min(self._unlooked + len(inputs), most)
        if self._unlooked < _APART and not known.plainly_differs(inputs):
            return
        self._unlooked = max(0, self._unlooked - _APART)
        differing = known.differences(inputs)
        if differing:
            self._warned = state
            warn_user(
                f"Images of another kind than {type(self).__name__} was fitted on: "
                f"{'; '.join(differing)}. Scores and thresholds may not hold for them. Fit on "
                f"images that came the same way.",
                WayWarning,
            )

    # -- predict from maps ------------------------------------------------------------------

    @torch.no_grad()
    def predict_feature_maps(self, feature_maps: Tensor) -> Tensor:
        """
        Score first-layer feature maps that were extracted beforehand.

        :param feature_maps: raw outputs of the first convolution, shape
            :math:`B \\times C \\times *S`
        :return: scores of shape :math:`B`, larger for ADV
        :raises RequiresFittingException: if the detector is not fitted
        :raises TypeError: if the maps are not floating point
        :raises ValueError: if they are not finite, or of another rank or channels than at fit
        """
        state = self._require_state()
        scores = self._score(check_maps(feature_maps, self._layout), state)
        check_finite("Feature maps", feature_maps, scores)
        return scores

    def predict_features(self, maps: Tensor) -> Tensor:
        """The shorter name of :meth:`predict_feature_maps`."""
        scores: Tensor = self.predict_feature_maps(maps)
        return scores

    # -- several fits, saving and deployment ---------------------------------------------------

    def merge(self, other: Self) -> Self:
        """
        Add what another detector was fitted on, for example on another machine. The result is
        that of one fit to the data of both.

        :param other: fitted detector of the same class with the same settings
        :return: the detector
        :raises RequiresFittingException: if ``other`` is not fitted
        :raises TypeError: if ``other`` is of another class
        :raises ValueError: if its settings, or the channels or sizes of its maps, differ; the
            detector is then as it was
        :raises RuntimeError: if one of the two was loaded without the statistics of its ID data
        """
        if type(other) is not type(self):
            raise TypeError(f"other must be a {type(self).__name__}, got {type(other).__name__}.")
        differing = differing_settings(self, other)
        if differing:
            raise ValueError(f"Both detectors must have the same settings, got {differing}.")
        self._require_statistics("merge()")
        other._require_statistics("merge()")
        if other._statistics is None:
            raise RequiresFittingException("other is not fitted. Call its fit() first.")
        return self._assign(self._add(self._statistics, other._statistics), "other")

    def state_dict(self) -> dict[str, Any]:
        """
        Everything that scoring needs but the model: save it by ``torch.save``, and load it by
        ``torch.load(..., weights_only=True)`` and :meth:`load_state_dict`.

        :return: class, version, settings, name of the layer, layout of its maps, tensors
        :raises RequiresFittingException: if the detector is not fitted
        """
        return saved_state(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """
        Take over settings and fit of a detector of the same class.

        :param state: what :meth:`state_dict` gave
        :return: the fitted detector
        :raises TypeError: if the state is no mapping, or an entry has the wrong type
        :raises ValueError: if it does not fit; the detector is then as it was
        """
        load_state(self, state)
        return self

    def __repr__(self) -> str:
        model = "None" if self.model is None else type(self.model).__name__
        settings = {"layer": self.layer_name or self.layer, **self.get_hyperparameters()}
        shown = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"{type(self).__name__}(model={model}, {shown}, fitted={self._is_fitted})"
