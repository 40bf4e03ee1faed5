"""
The detectors of a pipeline: who is fed what, and who runs by itself.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..layer.finding import find_layer
from ..layer.layer_call import LayerCall
from ..layer.manners import as_found_with_gradients, unwrap
from .feeding import Intake, check_own_representation, give_layer, intake, naming
from .shared_pass import Representations, SharedPass

__all__ = ["Panel", "common_layer"]

#: what a pipeline's table holds besides scores
_RESERVED = ("labels", "logits")


class Panel:
    """Detectors by name, in three groups: fed from the pass, first-layer ones, separate ones."""

    def __init__(
        self,
        model: Module,
        detectors: Mapping[str, Detector],
        separate: Collection[str],
        has_feature_maps: bool,
    ):
        """
        :param model: model that all detectors judge
        :param detectors: detectors by name
        :param separate: names of those that run by themselves
        :param has_feature_maps: whether a layer is named that gives feature maps
        :raises TypeError: if a detector cannot be fed from the pass, with the reason
        :raises ValueError: if names do not fit together
        """
        _check_names(detectors, separate)
        self.model = model
        self.detectors = dict(detectors)
        self.separate = tuple(separate)
        shared = {name: d for name, d in detectors.items() if name not in self.separate}
        self.first_layer = {n: d for n, d in shared.items() if isinstance(d, FirstLayerDetector)}
        self.fed: dict[str, Intake] = {
            n: intake(n, d, has_feature_maps)
            for n, d in shared.items()
            if n not in self.first_layer
        }
        #: names of detectors that ask the model again; they are fitted by themselves
        self.looks = [name for name, entry in self.fed.items() if entry.asks_again]
        self._unchecked = set(self.fed)

    def wanted(self, names: Iterable[str]) -> set[str]:
        """:return: the representations that the fed detectors of these names take"""
        return {self.fed[name].representation for name in names}

    def states(self) -> dict[str, dict[str, Tensor]]:
        """
        :return: fitted state of each first-layer detector
        :raises RequiresFittingException: if one is not fitted
        """
        return {name: self._state(name) for name in self.first_layer}

    def _state(self, name: str) -> dict[str, Tensor]:
        with naming(name, self.first_layer[name], "could not score the batch"):
            return self.first_layer[name]._require_state()

    def score_first_layer(
        self, call: LayerCall, states: Mapping[str, dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """
        :param call: the layer in the shared pass
        :param states: fitted state of each first-layer detector
        :return: their scores, shape :math:`B`
        """
        for name, detector in self.first_layer.items():
            give_layer(detector.fits, call)
            detector._warn_of_other_kind(call.input, states[name])
        return {
            n: call.largest(d._score_call(call, states[n])) for n, d in self.first_layer.items()
        }

    def score_other(self, name: str, x: Tensor, seen: Representations) -> Tensor:
        """
        :param name: name of a detector that does not read the first layer, or is separate
        :param x: batch of model inputs
        :param seen: what the shared pass gave for it
        :return: scores, without gradients
        :raises RequiresFittingException: if the detector is not fitted
        :raises RuntimeError: for any other error of the detector
        """
        detector = self.detectors[name]
        if name in self.looks:  # runs the model itself, whose errors are not the detector's
            with torch.no_grad():
                return self.fed[name].predict(detector, x, seen)
        with naming(name, detector, "could not score the batch"):
            if name in self.fed:
                with torch.no_grad():
                    return self.fed[name].predict(detector, x, seen)
            with as_found_with_gradients(unwrap(self.model)):
                scores: Tensor = detector.predict(x)
        return scores.detach()

    def scores_nothing(self, name: str, x: Tensor, seen: Representations) -> bool:
        """:return: whether the detector fails on the batch, as unfitted ones do in many ways"""
        try:
            if name in self.first_layer:
                self._state(name)
            else:
                self.score_other(name, x, seen)
        except Exception:  # some unfitted detectors stumble over their own None
            return True
        return False

    def fit_separately(self, name: str, loader: Iterable[Any]) -> None:
        """
        :param name: name of a separate detector, or of one that asks the model again
        :param loader: data to fit on
        :raises RuntimeError: if its fit fails
        """
        detector, alone = self.detectors[name], as_found_with_gradients(unwrap(self.model))
        if name in self.looks:
            detector.fit(loader)
            return
        with naming(name, detector, "could not be fitted"), alone:
            detector.fit(loader)

    def check_own(
        self, names: Iterable[str], shared: SharedPass, x: Tensor, seen: Representations
    ) -> None:
        """
        Check once that detectors with a model or encoder of their own mean the same as the pass.

        :param names: names of fed detectors
        :param shared: the pass
        :param x: batch of model inputs
        :param seen: what the pass gave for it
        :raises ValueError: if a detector's own representation is another
        """
        for name in self._unchecked.intersection(names):
            entry = self.fed[name]
            representation = getattr(seen, entry.representation)
            check_own_representation(name, self.detectors[name], entry, shared, x, representation)
            self._unchecked.discard(name)


def _check_names(detectors: Any, separate: Collection[str]) -> None:
    if not isinstance(detectors, Mapping) or not detectors:
        raise ValueError(f"detectors must map names to detectors, got {detectors!r}.")
    for name, detector in detectors.items():
        if not isinstance(name, str) or name in _RESERVED:
            raise ValueError(f"A detector's name must be text not in {_RESERVED}, got {name!r}.")
        if not isinstance(detector, Detector):
            raise TypeError(f"Detector {name!r} must be a pytorch-ood detector, got {detector!r}.")
    if unknown := set(separate) - set(detectors):
        raise ValueError(f"separate names no detectors: {sorted(unknown)}.")


def common_layer(
    model: Module, layer: str | Module | None, detectors: Mapping[str, FirstLayerDetector]
) -> str | None:
    """
    :param model: model of the pipeline
    :param layer: first layer that the user names for the pipeline
    :param detectors: first-layer detectors by name
    :return: dotted name of the layer that the user or a detector names, if any does
    :raises ValueError: if they name different layers, or a detector has another model
    """
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
