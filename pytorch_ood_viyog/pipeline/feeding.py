"""
How pytorch-ood's detectors are fed from a shared forward pass: which representation each family
takes, and by which of its public methods.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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

from ..fitting.fitted import MapsState
from ..layer.finding import find_layer
from ..layer.layer_call import LayerCall
from ..layer.manners import as_found, unwrap
from ..looks.second_look import SecondLook
from .shared_pass import Representations, SharedPass

__all__ = [
    "Intake",
    "check_own_representation",
    "give_layer",
    "intake",
    "naming",
    "trial_copy",
]

# a batch of two may differ from a larger one in the last bits, another layer differs by far more
_SAME = 1e-3


@dataclass(frozen=True)
class Intake:
    """What a family of detectors takes, and by which methods and attributes."""

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
        """
        :param detector: detector of this family
        :param collected: representations and ``"labels"`` of all ID samples, on the CPU
        :param device: where a detector without a device of its own is put
        """
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


INTAKES = (
    Intake(SecondLook, "logits", "fit", "predict_given", "model", asks_again=True),
    Intake(LogitsDetector, "logits", "fit_logits", "predict_logits", "model"),
    Intake(FeaturesDetector, "features", "fit_features", "predict_features", "encoder"),
    Intake(
        FeatureMapsDetector,
        "feature_maps",
        "fit_feature_maps",
        "predict_feature_maps",
        "backbone",
    ),
)

_REFUSED = {
    GradientDetector: "it needs gradients",
    StructuredDetector: "it takes representations of several layers at once",
    Detector: "it takes the raw model input",
}


def intake(name: str, detector: Detector, has_feature_maps: bool) -> Intake:
    """
    :param name: name of the detector in the pipeline
    :param detector: detector to be fed
    :param has_feature_maps: whether a layer is named that gives feature maps
    :return: how it is fed
    :raises TypeError: if it cannot be fed from the shared pass, with the reason
    """
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


def give_layer(detector: MapsState, call: LayerCall) -> None:
    """
    Tell a first-layer detector which layer it is fed from; some need its weights.

    :param detector: detector that has not run the model by itself yet
    :param call: the layer in the shared pass
    """
    if detector._first_layer is not None:
        if detector._first_layer.name is None:
            detector._first_layer.name = find_layer(
                unwrap(detector._first_layer.model), call.layer
            )
    elif detector.layer is None:
        detector.layer = call.layer


def trial_copy(detector: Detector) -> Detector:
    """
    A copy to fit, so that the detector stays as it was should the fit fail. Modules, tensors and
    functions are shared with the original (fitting replaces them), everything else is copied.

    :param detector: detector to copy
    :return: the copy
    """
    kept = [v for v in vars(detector).values() if isinstance(v, (Module, Tensor)) or callable(v)]
    return copy.deepcopy(detector, {id(value): value for value in kept})


@contextmanager
def naming(name: str, detector: Detector, what: str) -> Iterator[None]:
    """
    Say which of many detectors an error comes from.

    :param name: name of the detector in the pipeline
    :param detector: the detector
    :param what: what went wrong, such as ``"could not be fitted"``
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


def check_own_representation(
    name: str, detector: Detector, entry: Intake, shared: SharedPass, x: Tensor, seen: Tensor
) -> None:
    """
    Refuse a detector that was built for another model or layer: compare what its own model or
    encoder gives for the first two samples with what the shared pass gave.

    :param name: name of the detector in the pipeline
    :param detector: detector to be fed
    :param entry: how it is fed
    :param shared: the pass
    :param x: batch of model inputs
    :param seen: its representation in the shared pass
    :raises ValueError: if the two differ
    """
    source = getattr(detector, entry.source_name, None)
    bare = unwrap(shared.model)
    if source is None or (isinstance(source, Module) and unwrap(source) is bare):
        return
    with as_found(bare):
        own = source(x[:2])
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
