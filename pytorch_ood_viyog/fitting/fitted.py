"""
What a first-layer detector holds: its model and layer, statistics of ID data and fitted state.
"""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pytorch_ood.api import FeatureMapsDetector, ModelNotSetException, RequiresFittingException
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..layer.first_layer import FirstLayer

__all__ = ["MapsState", "Statistics", "contiguous"]

#: sufficient statistics of ID feature maps, by name; always among them ``count`` and
#: ``layout``, the numbers of channels and of dimensions
Statistics = dict[str, Tensor]


def contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """:return: the same tensors, laid out as they will be after saving and loading"""
    return {name: tensor.contiguous() for name, tensor in state.items()}


class MapsState(FeatureMapsDetector):  # type: ignore[misc]
    """
    What a first-layer detector knows of its model and of ID data. See
    :class:`~pytorch_ood_viyog.detectors.base.FirstLayerDetector`.
    """

    requires_fit = True
    #: seed of what is chosen at random
    seed: int = 0

    #: what a saved state holds, with the shapes of these tensors: ``C`` are the channels of the
    #: maps, ``A`` their spatial axes, 6 is six, other names stand for one size each, ``...`` for
    #: any further axes
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
        self._progress = False  # whether a fit that is going on shows it

    @abstractmethod
    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        """Fitted state from the statistics of all samples."""

    @property
    def layer_name(self) -> str | None:
        """Dotted name of the layer that is read; ``None`` before the first pass has found it."""
        return None if self._first_layer is None else self._first_layer.name

    @property
    def fits(self) -> "MapsState":
        """The detector that a fit is of: this one, unless it reads another's."""
        return self

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
                raise RequiresFittingException(
                    f"{type(self).__name__} is not fitted. Call fit() first."
                )
            self._state = contiguous(self._conclude(self._statistics))
        return self._state

    def _to_device(self, x: Tensor) -> Tensor:
        device = self.device  # of offloaded weights, which come when they work: none
        return x if device is None or device.type == "meta" else x.to(device)

    def _shapes(self) -> dict[str, str]:
        """What a saved state holds with these settings."""
        return self._saved_shapes

    @staticmethod
    def _check_loaded(tensors: Mapping[str, Tensor]) -> None:
        """
        What the shapes of a saved state do not tell of its values.

        :raises ValueError: if no fit gives them
        """

    def _is_of_other_weights(self) -> bool:
        """Whether the fitted state tells that the layer had other weights at fit."""
        return False

    def _without_model(self) -> Self:
        """A copy to deploy, without model, layer, statistics and state."""
        bare = copy.copy(self)
        bare.__dict__.update(
            model=None, layer=None, _first_layer=None, _statistics=None, _state=None
        )
        return bare
