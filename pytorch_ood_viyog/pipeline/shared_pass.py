"""
One forward pass of a model, read in several places: at the first convolution, at the penultimate
features, at a layer's feature maps and at the logits.
"""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..layer.finding import find_layer
from ..layer.first_layer import FirstLayer
from ..layer.hooks import PassHooks
from ..layer.layer_call import LayerCall
from ..layer.manners import as_found, device_of, unwrap
from ..looks.logits import PickLogits, picked_logits
from .heads import HeadWatch

__all__ = ["Representations", "SharedPass"]

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
    never stored.
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
        """
        :param model: model to run, also wrapped in ``DataParallel``, ``DistributedDataParallel``
            or ``torch.compile``
        :param layer: first layer to read; default is the first convolution that executes
        :param head: layer whose input are the features; default is the ``Linear``, or 1×1
            convolution of pooled features, whose output becomes the logits
        :param feature_maps: layer whose output are the feature maps
        :param logits: picks the logits out of the model's output; default takes the output itself
        :raises ValueError: if a layer is not part of the model
        """
        self.model = model
        self.logits = logits
        bare = unwrap(model)
        self.layer_name = None if layer is None else find_layer(bare, layer)
        #: dotted name of the head; ``None`` until a pass has found it
        self.head_name = None if head is None else find_layer(bare, head)
        self.maps_name = None if feature_maps is None else find_layer(bare, feature_maps)
        self._first_layer: FirstLayer | None = None

    def run(
        self, x: Tensor, wanted: Collection[str], read_first_layer: ReadFirstLayer | None = None
    ) -> Representations:
        """
        :param x: batch of model inputs on the model's device
        :param wanted: names of fields of :class:`Representations`
        :param read_first_layer: called once inside the pass with the first layer and its maps
        :return: the representations that were asked for, without gradients
        :raises TypeError: if the logits are not a tensor
        :raises ValueError: if logits or features do not have the shape they should have
        :raises RuntimeError: if a layer to read does not run
        """
        if read_first_layer is not None and not wanted:
            self._run_to_first_layer(x, read_first_layer)
            return Representations()
        model = unwrap(self.model)
        if read_first_layer is not None:
            self._require_first_layer().find(x)
        with ExitStack() as stack:
            stack.enter_context(as_found(model))
            if read_first_layer is not None:
                stack.enter_context(self._require_first_layer().reading(x, read_first_layer))
            hooks = stack.enter_context(PassHooks())
            heads = HeadWatch(model, hooks, self.head_name) if "features" in wanted else None
            maps = self._watch_maps(model, hooks) if "feature_maps" in wanted else []
            output = model(x)
        return Representations(
            logits=self._picked(output, len(x)) if "logits" in wanted else None,
            features=None if heads is None else self._features(heads, output, len(x)),
            feature_maps=_last(self.maps_name, maps) if "feature_maps" in wanted else None,
        )

    def _run_to_first_layer(self, x: Tensor, read: ReadFirstLayer) -> None:
        def run_layer_once(call: LayerCall) -> None:
            read(replace(call, output=call.maps()))

        self._require_first_layer().run(x, run_layer_once)

    def to_device(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs
        :return: ``x`` on the device of the model's parameters
        """
        return x.to(self.device)

    @property
    def device(self) -> torch.device:
        """Device of the model's parameters; the CPU for a model without any."""
        return device_of(self.model)

    def _require_first_layer(self) -> FirstLayer:
        # made when first needed: a model without any convolution may still feed other detectors
        if self._first_layer is None:
            self._first_layer = FirstLayer(self.model, self.layer_name)
        return self._first_layer

    def _features(self, heads: HeadWatch, output: Any, count: int) -> Tensor:
        self.head_name, features = heads.found(
            lambda: picked_logits(output, self.logits, count, self.model), count
        )
        return features

    def _watch_maps(self, model: Module, hooks: PassHooks) -> list[Tensor]:
        if self.maps_name is None:
            raise RuntimeError("No layer is named whose output are the feature maps.")
        outputs: list[Tensor] = []
        layer = model.get_submodule(self.maps_name)
        hooks.after(layer, lambda m, args, kwargs, output: outputs.append(output.detach().clone()))
        return outputs

    def _picked(self, output: Any, count: int) -> Tensor:
        return picked_logits(output, self.logits, count, self.model)


def _last(name: str | None, outputs: list[Tensor]) -> Tensor:
    if not outputs:
        raise RuntimeError(f"Layer {name!r}, whose output are the feature maps, never runs.")
    return outputs[-1]
