"""
The detectors of a pipeline: what each takes from the shared forward pass, and who runs by itself.
"""

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_ood.api import (
    Detector,
    FeatureMapsDetector,
    FeaturesDetector,
    GradientDetector,
    LogitsDetector,
    RequiresFittingException,
    StructuredDetector,
)
from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..layer.manners import as_found, as_found_with_gradients, unwrap
from ..looks.second_look import SecondLook
from .shared_pass import Representations

__all__ = ["Intake", "Panel", "naming", "remembered", "trial_copy"]

#: what a pipeline's table holds besides scores
_RESERVED = ("labels", "logits")
# a batch of two may differ from a larger one in the last bits, another layer differs by far more
_SAME = 1e-3


@dataclass(frozen=True)
class Intake:
    """What a family of detectors takes, and by which of its methods and attributes."""

    family: type[Detector]
    #: field of :class:`Representations`
    representation: str
    fit_name: str
    predict_name: str
    #: attribute with the detector's own way to the representation
    source_name: str
    #: whether it also takes the model input, and is fitted by itself: it asks the model again
    asks_again: bool = False

    def fit(self, detector: Detector, collected: dict[str, Tensor], device: torch.device) -> None:
        """Fit to representations and ``"labels"`` of all ID samples, which are on the CPU."""
        if detector.device is None:
            detector.to(device)
        taken = _as_numpy_knows(collected[self.representation])
        getattr(detector, self.fit_name)(taken, collected["labels"])

    def predict(self, detector: Detector, x: Tensor, seen: Representations) -> Tensor:
        """:return: the detector's scores, shape :math:`B`"""
        taken = _as_numpy_knows(getattr(seen, self.representation))
        arguments = (x, taken) if self.asks_again else (taken,)
        scores: Tensor = getattr(detector, self.predict_name)(*arguments)
        return scores


def _as_numpy_knows(values: Tensor) -> Tensor:
    """Several detectors use NumPy, which has no bfloat16 and is coarse in float16."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


_MAPS_NAMES = ("feature_maps", "fit_feature_maps", "predict_feature_maps", "backbone")
INTAKES = (
    Intake(SecondLook, "logits", "fit", "predict_given", "model", asks_again=True),
    Intake(LogitsDetector, "logits", "fit_logits", "predict_logits", "model"),
    Intake(FeaturesDetector, "features", "fit_features", "predict_features", "encoder"),
    Intake(FeatureMapsDetector, *_MAPS_NAMES),
)
_REFUSED = {
    GradientDetector: "it needs gradients",
    StructuredDetector: "it takes representations of several layers at once",
    Detector: "it takes the raw model input",
}


class Panel:
    """Detectors by name, in three groups: fed from the pass, first-layer ones, separate ones."""

    def __init__(
        self,
        model: Module,
        detectors: Mapping[str, Detector],
        separate: Collection[str],
        has_feature_maps: bool,
    ):
        _check_names(detectors, separate)
        self.model = model
        self.detectors = dict(detectors)
        self.separate = tuple(separate)
        shared = {name: d for name, d in detectors.items() if name not in self.separate}
        self.first_layer = {n: d for n, d in shared.items() if isinstance(d, FirstLayerDetector)}
        self.fed: dict[str, Intake] = {
            n: _intake(n, d, has_feature_maps)
            for n, d in shared.items()
            if n not in self.first_layer
        }
        #: names of detectors that ask the model again; they are fitted by themselves
        self.looks = [name for name, entry in self.fed.items() if entry.asks_again]
        self._unchecked = set(self.fed)

    def wanted(self, names: Iterable[str]) -> set[str]:
        """:return: the representations that the fed detectors of these names take"""
        return {self.fed[name].representation for name in names}

    def state(self, name: str) -> dict[str, Tensor]:
        """:return: fitted state of a first-layer detector"""
        with naming(name, self.first_layer[name], "could not score the batch"):
            return self.first_layer[name]._require_state()

    def score(self, name: str, x: Tensor, seen: Representations) -> Tensor:
        """:return: scores of a detector that does not read the first layer, or is separate"""
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

    def fit_alone(self, name: str, loader: Iterable[Any]) -> None:
        """Fit a separate detector, or one that asks the model again."""
        detector = self.detectors[name]
        if name in self.looks:
            detector.fit(loader)
            return
        with naming(name, detector, "could not be fitted"):  # noqa: SIM117
            with as_found_with_gradients(unwrap(self.model)):
                detector.fit(loader)

    def check_own(self, names: Iterable[str], x: Tensor, seen: Representations) -> None:
        """
        Refuse, at the first batch, a detector that was built for another model or layer: compare
        what its own model or encoder gives for two samples with what the shared pass gave.
        """
        bare = unwrap(self.model)
        for name in self._unchecked.intersection(names):
            detector, entry = self.detectors[name], self.fed[name]
            source = getattr(detector, entry.source_name, None)
            if source is not None and not (isinstance(source, Module) and unwrap(source) is bare):
                with as_found(bare):
                    own = source(x[:2])
                _check_same(name, detector, entry, own, getattr(seen, entry.representation))
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


def _intake(name: str, detector: Detector, has_feature_maps: bool) -> Intake:
    label = f"Detector {name!r} ({type(detector).__name__})"
    for entry in INTAKES:
        if not isinstance(detector, entry.family):
            continue
        if entry.family is FeatureMapsDetector and not has_feature_maps:
            raise TypeError(
                f"{label} takes the feature maps of a layer. Name that layer by feature_maps='...'"
                f", or let the detector run by itself with separate=[{name!r}]."
            )
        return entry
    reason = next(why for family, why in _REFUSED.items() if isinstance(detector, family))
    raise TypeError(
        f"{label} cannot be fed from a shared forward pass: {reason}. Let it run by itself with "
        f"separate=[{name!r}], at the price of its own passes."
    )


def _check_same(name: str, detector: Detector, entry: Intake, own: Any, seen: Tensor) -> None:
    expected = seen[:2].flatten(1)
    if isinstance(own, Tensor) and own.flatten(1).shape == expected.shape:
        difference = (own.flatten(1).to(expected) - expected).abs().max()
        if difference <= _SAME * expected.abs().max():
            return
    what = tuple(own.shape) if isinstance(own, Tensor) else type(own).__name__
    raise ValueError(
        f"Detector {name!r} ({type(detector).__name__}) has its own {entry.source_name}, which "
        f"gives other {entry.representation.replace('_', ' ')} ({what}) than the shared pass "
        f"({tuple(seen[:2].shape)}). Build it with None, name the layer for the pipeline (head= "
        f"or feature_maps=), or let it run by itself with separate=[{name!r}]."
    )


def trial_copy(detector: Detector) -> Detector:
    """
    A copy that shares modules, tensors and functions with the original (fitting replaces most of
    them); everything else is copied.
    """
    kept = [v for v in vars(detector).values() if isinstance(v, (Module, Tensor)) or callable(v)]
    return copy.deepcopy(detector, {id(value): value for value in kept})


def remembered(detector: Detector, *, inside: bool) -> Callable[[], None]:
    """
    What makes a detector again what it is now, should its fit fail: its attributes, values of
    tensors, which an optimiser changes in place, and if ``inside``, other objects' contents.
    """
    held = dict(vars(trial_copy(detector) if inside else detector))
    values = {n: v.detach().clone() for n, v in held.items() if isinstance(v, Tensor)}

    def restore() -> None:
        vars(detector).update(held)
        for name in vars(detector).keys() - held.keys():
            del vars(detector)[name]
        for name, value in values.items():
            if not torch.equal(held[name], value):
                held[name].data.copy_(value)

    return restore


@contextmanager
def naming(name: str, detector: Detector, what: str) -> Iterator[None]:
    """
    Say which of many detectors an error comes from.

    :raises RequiresFittingException: for one
    :raises RuntimeError: for any other exception, which is its cause
    """
    label = f"Detector {name!r} ({type(detector).__name__})"
    try:
        yield
    except RequiresFittingException:
        raise RequiresFittingException(f"{label} is not fitted. Call fit() first.") from None
    except Exception as error:
        raise RuntimeError(f"{label} {what}: {error!r}") from error
