"""
One forward pass of a model, read in several places: at the first convolution, at the penultimate
features, at a layer's feature maps and at the logits.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..layer.finding import find_layer
from ..layer.first_layer import FirstLayer
from ..layer.hooks import PassHooks
from ..layer.layer_call import LayerCall
from ..layer.manners import answer_of, as_found, device_of, unwrap
from ..looks.logits import PickLogits, picked_logits
from .heads import HeadWatch

__all__ = ["Representations", "SharedPass", "common_layer"]

ReadFirstLayer = Callable[[LayerCall], None]


@dataclass(frozen=True)
class Representations:
    """What one pass gave; ``None`` for what was not asked for."""

    #: model output before the softmax, shape :math:`B \\times C`
    logits: Tensor | None = None
    #: input of the classification head, shape :math:`B \\times D`
    features: Tensor | None = None
    #: output of the layer named for it, shape :math:`B \\times C \\times H \\times W`
    feature_maps: Tensor | None = None


class SharedPass:
    """
    Runs a model once per batch, in evaluation mode and without gradients, and reads it on the way
    by hooks that live for that pass and act for the calling thread alone.

    First-layer maps are handed to a reader inside the pass, right after the convolution ran and
    before the model goes on, so that an in-place activation does not reach them and they are
    never stored. See :class:`~pytorch_ood_viyog.pipeline.shared_forward.SharedForward` for the
    arguments.
    """

    def __init__(
        self,
        model: Module,
        *,
        layer: str | Module | None = None,
        head: str | Module | None = None,
        feature_maps: str | Module | None = None,
        logits: PickLogits | None = None,
    ):
        self.model = model
        self.logits = logits
        bare = unwrap(model)
        self.layer_name = None if layer is None else find_layer(bare, layer)
        #: dotted name of the head; ``None`` until a pass has found it
        self.head_name = None if head is None else find_layer(bare, head)
        self.maps_name = None if feature_maps is None else find_layer(bare, feature_maps)
        self._first_layer: FirstLayer | None = None

    def run(
        self, x: Tensor, wanted: Collection[str], read: ReadFirstLayer | None = None
    ) -> Representations:
        """
        :param x: batch of model inputs on the model's device
        :param wanted: names of fields of :class:`Representations`
        :param read: called once inside the pass with the first layer and its maps
        :return: the representations that were asked for, without gradients
        :raises TypeError: if the logits are not a tensor
        :raises ValueError: if logits or features do not have the shape they should have
        :raises RuntimeError: if a layer to read does not run
        """
        if read is not None and not wanted:  # the model need not run any further
            self._require_first_layer().run(x, lambda call: read(_with_maps(call)))
            return Representations()
        model = unwrap(self.model)
        if read is not None:
            self._require_first_layer().find(x)
        maps: list[Tensor] = []
        with ExitStack() as stack:
            stack.enter_context(as_found(model))
            if read is not None:
                stack.enter_context(self._require_first_layer().reading(x, read))
            hooks = stack.enter_context(PassHooks())
            heads = HeadWatch(model, hooks, self.head_name) if "features" in wanted else None
            if "feature_maps" in wanted and self.maps_name is not None:
                keep = lambda m, args, kwargs, out: maps.append(out.detach().clone())  # noqa: E731
                hooks.after(model.get_submodule(self.maps_name), keep)
            output = answer_of(model, x)

        def logits() -> Tensor:
            return picked_logits(output, self.logits, len(x), self.model)

        if "feature_maps" in wanted and not maps:
            raise RuntimeError(
                f"Layer {self.maps_name!r}, whose output are the feature maps, never runs."
            )
        features = None
        if heads is not None:
            self.head_name, features = heads.found(logits, len(x))
        picked = logits() if "logits" in wanted else None
        return Representations(picked, features, maps[-1] if maps else None)

    @property
    def device(self) -> torch.device:
        """Device of the model's parameters; the CPU for a model without any."""
        return device_of(self.model)

    def _require_first_layer(self) -> FirstLayer:
        # made when first needed: a model without any convolution may still feed other detectors
        if self._first_layer is None:
            self._first_layer = FirstLayer(self.model, self.layer_name)
        return self._first_layer


def _with_maps(call: LayerCall) -> LayerCall:
    """Computed once for all that read them."""
    return replace(call, output=call.maps())


def common_layer(
    model: Module, layer: str | Module | None, detectors: Mapping[str, FirstLayerDetector]
) -> str | None:
    """Dotted name of the first layer that the user or a detector names, if any does."""
    bare = unwrap(model)
    for name, detector in detectors.items():
        if detector.model is not None and unwrap(detector.model) is not bare:
            raise ValueError(
                f"Detector {name!r} has another model ({type(detector.model).__name__}) than "
                f"the pipeline ({type(bare).__name__}). Build it with None."
            )
    named = (layer, *(detector.layer for detector in detectors.values()))
    found = {find_layer(bare, one) for one in named if one is not None}
    if len(found) > 1:
        raise ValueError(f"All first-layer detectors must read one layer, got {sorted(found)}.")
    return found.pop() if found else None
