"""
Fitting of all first-layer detectors: one pass over ID data, statistics of constant size, state.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from pytorch_ood.api import FeatureMapsDetector, ModelNotSetException, RequiresFittingException
from torch import Tensor
from torch.nn import Module
from tqdm import tqdm
from typing_extensions import Self

from .checks import check_finite, check_input, check_maps, id_mask, split_batch
from .distributed import merged_over_ranks
from .first_layer import FirstLayer, LayerCall
from .guest import same_random_state

__all__ = ["FittedOnMaps", "Statistics", "accumulator_dtype"]

#: sufficient statistics of ID feature maps, by name; always among them ``count`` and
#: ``layout``, the numbers of channels and of dimensions
Statistics = dict[str, Tensor]

# samples of pre-extracted maps that are taken at once, which bounds the memory of temporaries
_CHUNK = 256


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """
    :param device: device that sums are kept on
    :return: float64, or float32 where the device has none (Apple's MPS)
    """
    return torch.float32 if device.type == "mps" else torch.float64


class FittedOnMaps(FeatureMapsDetector):  # type: ignore[misc]
    """
    What a first-layer detector knows of its model and of ID data, and how it learns it. See
    :class:`~pytorch_ood_viyog.detector.FirstLayerDetector`.
    """

    requires_fit = True

    #: what a saved state holds, with the shapes of these tensors: ``C`` are the channels of the
    #: maps, other names stand for one size each, ``...`` for any further axes
    _saved_shapes: ClassVar[dict[str, str]] = {}
    #: whether that are the statistics, which are concluded anew after loading, or the state
    _saves_statistics: ClassVar[bool] = True

    def __init__(self, model: Module | None, *, layer: str | Module | None = None):
        """
        :param model: model whose first convolution is read; ``None`` to use feature maps only
        :param layer: layer to read instead, as dotted name or module
        :raises TypeError: if ``model`` is not a module, or ``layer`` neither name nor module
        :raises ValueError: if the model does not contain ``layer``, or a name comes without model
        :raises RuntimeError: if the model has no convolution and no layer is named
        """
        if model is not None and not isinstance(model, Module):
            raise TypeError(f"model must be a torch.nn.Module or None, got {type(model).__name__}")
        if layer is not None and not isinstance(layer, (str, Module)):
            raise TypeError(f"layer must be a dotted name or a module, got {type(layer).__name__}")
        if model is None and isinstance(layer, str):
            raise ValueError(f"layer={layer!r} needs a model to be looked up in. Pass the module.")
        self.model = model  # first: pytorch-ood reads the device off the first attribute with one
        self.layer = layer
        self._first_layer = None if model is None else FirstLayer(model, layer)
        self._statistics: Statistics | None = None
        self._state: dict[str, Tensor] | None = None
        # numbers of channels and of dimensions of the maps; no tensor, which would have to be
        # waited for on a GPU
        self._layout: tuple[int, int] | None = None

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

    @abstractmethod
    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        """Fitted state from the statistics of all samples."""

    # -- fit --------------------------------------------------------------------------------

    def fit(self, data_loader: Iterable[Any], *, progress: bool = True) -> Self:
        """
        Fit to ID data in one pass; the model runs only up to the first convolution.

        Where a ``torch.distributed`` process group is initialised, all its processes must call
        this, each with a loader over its own share of the data, which may be empty. They all end
        with the state of a single fit to all of the data.

        :param data_loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``; samples with label
            :math:`< 0` are left out
        :param progress: show a progress bar where the pass takes more than a second
        :return: the fitted detector
        :raises ModelNotSetException: if the detector has no model
        :raises TypeError: if the loader yields something else
        :raises ValueError: if there are no ID samples, or NaN or inf among them; the detector
            then keeps its old state
        :raises RuntimeError: if the fit fails on another process
        """
        first_layer = self._require_first_layer()
        found = merged_over_ranks(
            lambda: self._measure_all(first_layer, data_loader, progress),
            lambda one, other: (one[0], self._merged(one[1], other[1])),
        )
        if found is None:
            return self._assign(None, "data_loader")
        first_layer.name = found[0]
        return self._assign(found[1], "data_loader")

    def _measure_all(
        self, first_layer: FirstLayer, data_loader: Iterable[Any], progress: bool
    ) -> tuple[str | None, Statistics] | None:
        if isinstance(data_loader, Tensor):
            raise TypeError("data_loader must yield batches, got a tensor. Use a DataLoader.")
        statistics: Statistics | None = None
        with same_random_state(self.model):
            for x, y in _batches(data_loader, progress):
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

        def read(call: LayerCall) -> Statistics:
            maps = check_maps(call.maps())
            check_finite("Input", x, maps)
            return self._counted(maps, call.input)

        return first_layer.run(x, read)

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
        state = self._conclude(statistics)
        self._statistics, self._state, self._layout = statistics, state, _layout(statistics)
        return self

    # -- state ------------------------------------------------------------------------------

    @property
    def layer_name(self) -> str | None:
        """Dotted name of the layer that is read; ``None`` before the first pass has found it."""
        return None if self._first_layer is None else self._first_layer.name

    def set_hyperparameters(self, **kwargs: Any) -> Self:
        """
        Set hyper-parameters by name, with the checks of the constructor. A fitted detector stays
        fitted: its state is concluded anew from the statistics of its ID data.

        :param kwargs: values by name
        :return: the detector
        :raises ValueError: if a name is unknown or a value out of range; nothing is set then
        :raises RuntimeError: if the detector was loaded without the statistics of its ID data
        """
        if kwargs:
            self._require_statistics("set_hyperparameters()")
        before = {name: getattr(self, name) for name in kwargs if hasattr(self, name)}
        try:
            super().set_hyperparameters(**kwargs)
        except Exception:
            for name, value in before.items():
                setattr(self, name, value)
            raise
        if kwargs:
            self._state = None
        return self

    def _require_statistics(self, method: str) -> None:
        if self._state is not None and self._statistics is None:
            raise RuntimeError(
                f"{method} needs the statistics of the ID data, which a loaded "
                f"{type(self).__name__} does not have: only its fitted state was saved. Fit it "
                f"again."
            )

    def _require_first_layer(self) -> FirstLayer:
        if self._first_layer is None:
            raise ModelNotSetException(
                f"{type(self).__name__} has no model. Pass one to the constructor, or use "
                f"fit_features() and predict_features() on first-layer maps."
            )
        return self._first_layer

    @property
    def _is_fitted(self) -> bool:
        return self._state is not None or self._statistics is not None

    def _require_state(self) -> dict[str, Tensor]:
        if self._state is None:
            if self._statistics is None:
                raise RequiresFittingException
            self._state = self._conclude(self._statistics)
        return self._state

    def _to_device(self, x: Tensor) -> Tensor:
        device = self.device
        return x if device is None else x.to(device)


def _layout(statistics: Statistics) -> tuple[int, int]:
    channels, dimensions = statistics["layout"].tolist()
    return channels, dimensions


def _batches(loader: Iterable[Any], progress: bool) -> Iterator[tuple[Tensor, Any]]:
    bar = tqdm(loader, desc="fit", leave=False, delay=1, disable=None if progress else True)
    for batch in bar:
        x, y = split_batch(batch)
        yield check_input(x), y
