"""
A model that returns its output and the scores of fitted detectors from one forward pass.
"""

import copy
import inspect
from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..fitting.fitted import MapsState
from ..layer.convolution import CONVOLUTIONS
from ..layer.finding import Runs, find_layer, layer_named, runs_first, runs_unclear
from ..layer.manners import unwrap, without_compiled
from .scorers import checked_detector
from .stand_ins import ScoredLayer, put_in_place

__all__ = ["ScoredModel", "with_score"]

_ONE = "score"


class ScoredModel(Module):
    """
    A copy of a model that returns ``(output, score)`` from one forward pass. The first layer of
    the copy is replaced by one that also scores what it sees, so that no hooks are needed.

    Its ``forward`` has the signature of the model's own: ``torch.export`` and the ONNX exporter
    find the same names of arguments, and take the same ``dynamic_shapes``.
    """

    def __init__(
        self,
        model: Module,
        detectors: FirstLayerDetector | Mapping[str, FirstLayerDetector],
        name: str,
    ):
        """As :func:`with_score`, of a model without wrappers and the name of its layer."""
        super().__init__()
        self.several = isinstance(detectors, Mapping)
        named = detectors if isinstance(detectors, Mapping) else {_ONE: detectors}
        try:
            self.model = copy.deepcopy(model).eval()
        except Exception as error:
            raise TypeError(
                f"A scored model holds a copy of the model, and {type(model).__name__} cannot be "
                f"copied: {error}. Sharded models (FSDP) are scored before they are sharded, or "
                f"by detector.predict and SharedForward."
            ) from error
        read = layer_named(self.model, name)
        for detector in named.values():
            _check_channels(detector.fits, name, read)
        layer = self.model.get_submodule(runs_first(name))
        known = [detector.fits._first_layer for detector in named.values()]
        self._runs = next((first.runs for first in known if first and first.runs), Runs())
        self._name = name
        self._scored = ScoredLayer(layer, read, named, self._runs)
        put_in_place(self.model, layer, self._scored)
        without_compiled(self.model)
        self._mirror_signature()

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """
        Takes what the model takes.

        :return: the model's output, and scores of shape :math:`B`, larger for ADV; of several
            detectors a dictionary by their names
        :raises RuntimeError: if the first layer does not run
        """
        batch = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        # a trace of a layer that runs once must not compare the numbers of rows
        traced = torch.compiler.is_compiling() and self._runs.per_sample == 1
        # of a trace, len(batch) is a constant
        self._scored.begin(None if traced or batch is None else batch.shape[0])
        output = self.model(*args, **kwargs)
        scores, parts = self._scored.slot.take(), self._scored.parts.take()
        if scores is None and parts and batch is not None:
            rows = sum(len(part.input) for part in parts)
            raise RuntimeError(runs_unclear(self._name, rows, len(batch), len(parts)))
        if scores is None:
            raise RuntimeError(f"Layer {self._name!r}, which the detector reads, did not run.")
        return output, scores if self.several else scores[_ONE]

    def unscored(self, *args: Any, **kwargs: Any) -> Any:
        """
        Takes what the model takes.

        :return: the model's output alone
        """
        self._scored.slot.put({})  # what is there is not scored again
        output = self.model(*args, **kwargs)
        self._scored.slot.take()
        return output

    def _mirror_signature(self) -> None:
        """Exporters bind arguments by the signature of ``forward``, not by what it takes."""

        def forward(self: ScoredModel, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            return ScoredModel.forward(self, *args, **kwargs)

        own = inspect.signature(self.model.forward)
        me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        mirrored = inspect.Signature([me, *own.parameters.values()])
        forward.__signature__ = mirrored  # type: ignore[attr-defined]
        self.__dict__["forward"] = MethodType(forward, self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "forward"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._mirror_signature()


def with_score(
    model: Module,
    detector: FirstLayerDetector | Mapping[str, FirstLayerDetector],
    *,
    layer: str | Module | None = None,
) -> ScoredModel:
    """
    A module that returns the model's output and the detector's scores from one forward pass. It
    goes through ``torch.export``, ONNX export and ``torch.compile``, with the model's own names of
    arguments. For an ONNX file see :func:`~pytorch_ood_viyog.deploy.onnx_file.export_onnx`.

    It holds a copy of the model in evaluation mode; the model itself is not touched. Unlike the
    detector, it does not refuse NaN and inf; their scores are NaN.

    .. rubric:: Examples

    .. code-block:: python

        detector = ViyogTV(model).fit(train_loader)
        logits, scores = with_score(model, detector)(images)

    :param model: model to score with, also wrapped in ``DataParallel``, DDP or ``torch.compile``
    :param detector: detector that was fitted on this model, or several by name
    :param layer: layer to read; default is the layer that the detector reads
    :return: module that takes what the model takes and returns ``(output, score)``; of several
        detectors, ``score`` is a dictionary by their names
    :raises TypeError: if ``model`` is no module or ``detector`` no first-layer detector
    :raises RequiresFittingException: if a detector is not fitted
    :raises ValueError: if the layer is not known or not part of the model, or has other channels
        than the detector was fitted on, or if detectors read different layers
    """
    if not isinstance(model, Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    detectors = detector if isinstance(detector, Mapping) else {_ONE: detector}
    if not detectors:
        raise ValueError("detector must be a detector or detectors by name, got no detectors.")
    for each in detectors.values():
        checked_detector(each)._require_state()
    bare = unwrap(model)
    return ScoredModel(bare, detector, _common_layer(bare, detectors, layer))


def _common_layer(
    model: Module, detectors: Mapping[str, FirstLayerDetector], layer: str | Module | None
) -> str:
    if layer is not None:
        return find_layer(model, layer)
    known = [each.layer_name or each.fits.layer for each in detectors.values()]
    found = {find_layer(model, one) for one in known if one is not None}
    if len(found) > 1:
        raise ValueError(f"All detectors must read one layer, got {sorted(found)}.")
    if not found:
        kind = type(next(iter(detectors.values()))).__name__
        raise ValueError(
            f"This {kind} has no model and does not know which layer it reads. "
            f"Name it: with_score(model, detector, layer='...')."
        )
    return found.pop()


def _check_channels(detector: MapsState, name: str, layer: Module) -> None:
    if not isinstance(layer, CONVOLUTIONS) or detector._layout is None:
        return
    if (layer.out_channels, 2 + len(layer.kernel_size)) != detector._layout:
        raise ValueError(
            f"The detector was fitted on maps of {detector._layout[0]} channels and "
            f"{detector._layout[1]} dimensions, layer {name!r} gives {layer.out_channels} "
            f"channels and {2 + len(layer.kernel_size)} dimensions."
        )
