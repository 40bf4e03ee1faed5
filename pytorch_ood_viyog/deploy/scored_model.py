"""
Fitted detectors as plain modules, for ``torch.export``, ONNX and ``torch.compile``.
"""

import copy
import threading
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..fitting.fitted import MapsState
from ..layer.branches import runs_first
from ..layer.checks import check_maps
from ..layer.convolution import CONVOLUTIONS
from ..layer.finding import find_layer, layer_named
from ..layer.first_layer import LayerCall
from ..layer.manners import unwrap

__all__ = ["MapsToScores", "ScoredModel", "maps_to_scores", "with_score"]


class _Scorer(Module):
    """What a fitted detector needs to score, without its model; its tensors are buffers."""

    def __init__(self, detector: FirstLayerDetector):
        super().__init__()
        state = detector._require_state()
        self.names = list(state)
        for name, tensor in state.items():
            self.register_buffer(name, tensor.detach().clone())
        self.scoring = detector._without_model()

    def of_maps(self, maps: Tensor) -> Tensor:
        return self.scoring._score(check_maps(maps, self.scoring._layout), self._state())

    def of_call(self, call: LayerCall) -> Tensor:
        return self.scoring._score_call(call, self._state())

    def _state(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(name) for name in self.names}


class MapsToScores(Module):
    """
    A fitted detector as a module without model: first-layer maps to scores. Unlike the detector,
    it does not refuse NaN and inf; their scores are NaN.
    """

    def __init__(self, detector: FirstLayerDetector):
        """
        :param detector: fitted detector
        :raises RequiresFittingException: if it is not fitted
        """
        super().__init__()
        self.scorer = _Scorer(detector)

    def forward(self, maps: Tensor) -> Tensor:
        """
        :param maps: raw outputs of the first convolution, :math:`B \\times C \\times *S`
        :return: scores of shape :math:`B`, larger for ADV
        """
        return self.scorer.of_maps(maps)


class ScoredModel(Module):
    """
    A copy of a model that returns ``(output, score)`` from one forward pass. The first layer of
    the copy is replaced by one that also scores what it sees, so that no hooks are needed.
    """

    def __init__(self, model: Module, detector: FirstLayerDetector, name: str):
        """
        :param model: model without wrappers; it is copied
        :param detector: fitted detector
        :param name: name of the layer to read
        """
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        read = layer_named(self.model, name)
        _check_channels(detector.fits, name, read)
        layer = self.model.get_submodule(runs_first(name))
        scored = _ScoredLayer(layer, read, detector)
        for module in [*self.model.modules()]:
            for child_name, child in module._modules.items():
                if child is layer and module is not scored:
                    module._modules[child_name] = scored
        self._slot = scored.slot

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
        """
        Takes what the model takes.

        :return: the model's output, and scores of shape :math:`B`, larger for ADV
        :raises RuntimeError: if the first layer does not run
        """
        self._slot.put(None)
        output = self.model(*args, **kwargs)
        score = self._slot.take()
        if score is None:
            raise RuntimeError("The layer that the detector reads did not run.")
        return output, score


class _Slot:
    """Carries the score from the layer to the end of the same pass of the same thread."""

    def __init__(self) -> None:
        self._traced: Tensor | None = None
        self._local = threading.local()

    def put(self, score: Tensor | None) -> None:
        if torch.compiler.is_compiling():  # a trace has one thread and cannot see the other kind
            self._traced = score
        else:
            self._local.score = score

    def is_empty(self) -> bool:
        if torch.compiler.is_compiling():
            return self._traced is None
        return getattr(self._local, "score", None) is None

    def take(self) -> Tensor | None:
        score: Tensor | None
        if torch.compiler.is_compiling():
            score, self._traced = self._traced, None
            return score
        score, self._local.score = getattr(self._local, "score", None), None
        return score

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Slot":
        memo[id(self)] = copied = _Slot()
        return copied

    def __reduce__(self) -> tuple[type["_Slot"], tuple[()]]:
        return _Slot, ()


class _ScoredLayer(Module):
    """
    Stands in for a layer: gives its output and leaves the score of its first run in a slot. Where
    it is one of several branches, it stands in for the one that runs first.
    """

    def __init__(self, layer: Module, read: Module, detector: FirstLayerDetector):
        super().__init__()
        self.layer = layer
        self.branches = None if read is layer else read
        self.scorer = _Scorer(detector)
        self.slot = _Slot()

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.layer(x)
        if self.slot.is_empty():
            self.slot.put(self.scorer.of_call(self._call(x, maps)))
        return maps

    def _call(self, x: Tensor, maps: Tensor) -> LayerCall:
        if self.branches is not None:
            return LayerCall(self.branches, x)
        # the user's hooks may have changed the output; scores are of the raw one
        raw = self.layer.forward(x) if self.layer._forward_hooks else maps
        return LayerCall(self.layer, x, raw)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # models that look at their first layer's weight, stride, ...
            return getattr(super().__getattr__("layer"), name)


def maps_to_scores(detector: FirstLayerDetector) -> MapsToScores:
    """
    A module without model that takes first-layer maps and returns their scores, for
    ``torch.export``, ONNX and ``torch.compile``; later fits of the detector do not change it. For
    inputs instead of maps, see :func:`with_score`.

    .. rubric:: Examples

    .. code-block:: python

        scores = maps_to_scores(detector)(maps)

    :param detector: fitted detector
    :return: the module
    :raises TypeError: if it is no first-layer detector
    :raises RequiresFittingException: if it is not fitted
    """
    return MapsToScores(_checked(detector))


def with_score(
    model: Module, detector: FirstLayerDetector, *, layer: str | Module | None = None
) -> ScoredModel:
    """
    A module that returns the model's output and the detector's scores from one forward pass. It
    goes through ``torch.export``, ONNX export and ``torch.compile``.

    It holds a copy of the model in evaluation mode; the model itself is not touched. Unlike the
    detector, it does not refuse NaN and inf; their scores are NaN.

    .. rubric:: Examples

    .. code-block:: python

        detector = ViyogTV(model).fit(train_loader)
        logits, scores = with_score(model, detector)(images)

    :param model: model to score with, also wrapped in ``DataParallel``, DDP or ``torch.compile``
    :param detector: detector that was fitted on this model
    :param layer: layer to read; default is the layer that the detector reads
    :return: module that takes what the model takes and returns ``(output, score)``
    :raises TypeError: if ``model`` is no module or ``detector`` no first-layer detector
    :raises RequiresFittingException: if the detector is not fitted
    :raises ValueError: if the layer is not known or not part of the model, or has other channels
        than the detector was fitted on
    """
    if not isinstance(model, Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    _checked(detector)._require_state()
    bare = unwrap(model)
    known = layer or detector.layer_name or detector.fits.layer
    if known is None:
        raise ValueError(
            f"This {type(detector).__name__} has no model and does not know which layer it reads. "
            f"Name it: with_score(model, detector, layer='...')."
        )
    return ScoredModel(bare, detector, find_layer(bare, known))


def _checked(detector: object) -> FirstLayerDetector:
    if not isinstance(detector, FirstLayerDetector):
        raise TypeError(f"detector must be a first-layer detector, got {type(detector).__name__}.")
    return detector


def _check_channels(detector: MapsState, name: str, layer: Module) -> None:
    if not isinstance(layer, CONVOLUTIONS) or detector._layout is None:
        return
    if (layer.out_channels, layer.weight.dim()) != detector._layout:
        raise ValueError(
            f"The detector was fitted on maps of {detector._layout[0]} channels and "
            f"{detector._layout[1]} dimensions, layer {name!r} gives {layer.out_channels} "
            f"channels and {layer.weight.dim()} dimensions."
        )
