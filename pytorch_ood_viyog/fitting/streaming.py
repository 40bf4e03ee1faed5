"""
Fitting of all first-layer detectors: one pass over ID data, statistics of constant size, state.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from ..layer.batches import batches, id_mask
from ..layer.checks import check_finite, check_maps
from ..layer.first_layer import FirstLayer
from ..layer.layer_call import LayerCall
from ..layer.manners import same_random_state
from .distributed import merged_over_ranks
from .fitted import MapsState, Statistics, contiguous
from .some_images import some_images

__all__ = ["FittedOnMaps"]

# samples of pre-extracted maps that are taken at once, which bounds the memory of temporaries
_CHUNK = 256


class FittedOnMaps(MapsState):
    """
    How a first-layer detector learns from ID data. See
    :class:`~pytorch_ood_viyog.detectors.base.FirstLayerDetector`.
    """

    # -- what a detector adds ---------------------------------------------------------------

    @abstractmethod
    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        """
        Statistics of ID samples; ``inputs`` are the layer's inputs where they are known. The
        entries ``count`` and ``layout`` are added by the caller.
        """

    def _merge(self, one: Statistics, other: Statistics) -> Statistics:
        """Statistics of both sets of samples together: sums, unless a detector overrides it."""
        return {name: one[name] + other[name].to(one[name].device) for name in one}

    # -- fit --------------------------------------------------------------------------------

    def fit(
        self, data_loader: Iterable[Any], *, progress: bool = True, max_images: int | None = None
    ) -> Self:
        """
        Fit to ID data in one pass; the model runs only up to the first convolution.

        Where a ``torch.distributed`` process group is initialised, all its processes must call
        this, each with a loader over its own share of the data, which may be empty. They all end
        with the state of a single fit to all of the data.

        :param data_loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``; samples with label
            :math:`< 0` are left out
        :param progress: show a progress bar where the pass takes more than a second
        :param max_images: most images that are read, chosen by ``seed`` before any is, see
            :func:`~pytorch_ood_viyog.fitting.some_images.some_images`; needs a ``DataLoader``
            over an indexable dataset, or such a dataset. Default: all
        :return: the fitted detector
        :raises ModelNotSetException: if the detector has no model
        :raises TypeError: if the loader yields something else, or ``max_images`` cannot choose
        :raises ValueError: if there are no ID samples, or NaN or inf among them; the detector
            then keeps its old state
        :raises RuntimeError: if the fit fails on another process
        """
        first_layer = self._require_first_layer()
        found = merged_over_ranks(
            lambda: self._measure_all(
                first_layer, some_images(data_loader, max_images, self.seed), progress
            ),
            lambda one, other: (one[0], self._merged(one[1], other[1])),
        )
        if found is None:
            return self._assign(None, "data_loader")
        first_layer.name = found[0]
        return self._fit_to(found[1], progress)

    def _fit_to(self, statistics: Statistics, progress: bool) -> Self:
        """Fit to what a pass over a loader gave, which may take longer than the pass."""
        self._progress = progress
        try:
            return self._assign(statistics, "data_loader")
        finally:
            self._progress = False

    def _measure_all(
        self, first_layer: FirstLayer, data_loader: Iterable[Any], progress: bool
    ) -> tuple[str | None, Statistics] | None:
        statistics: Statistics | None = None
        with same_random_state(self.model):
            for x, y in batches(data_loader, "fit", progress):
                statistics = self._add(statistics, self._measure_input(first_layer, x, y))
        return None if statistics is None else (first_layer.name, statistics)

    @torch.no_grad()
    def fit_features(self, maps: Tensor, y: Any = None) -> Self:
        """
        Fit to first-layer feature maps that were extracted beforehand.

        :param maps: raw outputs of the first convolution for ID samples, shape
            :math:`N \\times C \\times *S`
        :param y: labels of shape :math:`N`; samples with label :math:`< 0` are left out
        :return: the fitted detector
        :raises TypeError: if the maps are not floating point
        :raises ValueError: if shapes do not fit, there are no ID samples, or NaN or inf among
            them; the detector then keeps its old state
        """
        return self._assign(self._measure_maps(maps, y, None), "maps")

    def fit_feature_maps(self, feature_maps: Tensor, y: Any = None) -> Self:
        """pytorch-ood's name for :meth:`fit_features`."""
        return self.fit_features(feature_maps, y)

    @torch.no_grad()
    def partial_fit_features(self, maps: Tensor, y: Any = None) -> Self:
        """
        Add a batch of feature maps to those the detector was fitted on so far. ``fit`` and
        ``fit_features`` start anew.

        :param maps: as for :meth:`fit_features`
        :param y: as for :meth:`fit_features`; a batch without ID samples adds nothing
        :return: the detector
        :raises TypeError: as :meth:`fit_features`
        :raises ValueError: as :meth:`fit_features`; what was added before is kept
        :raises RuntimeError: if the detector was loaded without the statistics of its ID data
        """
        self._require_statistics("partial_fit_features()")
        statistics = self._add(self._statistics, self._measure_maps(maps, y, self._layout))
        if statistics is not None:
            self._statistics, self._state = statistics, None  # concluded when first needed
            self._layout = _layout(statistics)
        return self

    def _measure_input(self, first_layer: FirstLayer, x: Tensor, y: Any) -> Statistics | None:
        known = id_mask(y, x)
        x = self._to_device(x if known is None else x[known])
        if x.shape[0] == 0:
            return None

        return first_layer.run(x, lambda call: self._measure_call(x, call))

    def _measure_call(self, x: Tensor, call: LayerCall) -> Statistics:
        """Statistics of a batch of ID samples at the layer."""
        maps = check_maps(call.maps())
        check_finite("Input", x, maps)
        return self._counted(maps, call.input)

    def _measure_maps(
        self, maps: Tensor, y: Any, layout: tuple[int, int] | None
    ) -> Statistics | None:
        known = id_mask(y, check_maps(maps, layout))
        maps = self._to_device(maps if known is None else maps[known])
        if maps.shape[0] == 0:
            return None
        check_finite("Feature maps", maps)
        statistics: Statistics | None = None
        for chunk in torch.split(maps, _CHUNK):
            statistics = self._add(statistics, self._counted(chunk, None))
        return statistics

    def _counted(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        statistics = self._measure(maps, inputs)
        statistics["count"] = torch.tensor(maps.shape[0], device=maps.device)
        statistics["layout"] = torch.tensor([maps.shape[1], maps.dim()])
        return statistics

    def _add(self, total: Statistics | None, batch: Statistics | None) -> Statistics | None:
        if total is None or batch is None:
            return batch if total is None else total
        return self._merged(total, batch)

    def _merged(self, one: Statistics, other: Statistics) -> Statistics:
        if _layout(one) != _layout(other):
            raise ValueError(
                f"All feature maps of a fit must have the same numbers of channels and "
                f"dimensions, got {_layout(one)} and {_layout(other)}."
            )
        return self._merge(one, other) | {"layout": one["layout"]}

    def _assign(self, statistics: Statistics | None, source: str) -> Self:
        if statistics is None:
            raise ValueError(
                f"{source} holds no ID samples: it is empty, or all labels are < 0. "
                f"{type(self).__name__} needs ID data to fit."
            )
        state = contiguous(self._conclude(statistics))
        self._statistics, self._state, self._layout = statistics, state, _layout(statistics)
        return self


def _layout(statistics: Statistics) -> tuple[int, int]:
    channels, dimensions = statistics["layout"].tolist()
    return channels, dimensions
