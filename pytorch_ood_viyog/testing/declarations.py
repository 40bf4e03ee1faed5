"""
What a subclass of the contract declares about its detector, and how the checks use it.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from pytorch_ood.api import (
    FeatureMapsDetector,
    FeaturesDetector,
    LogitsDetector,
    ModelNotSetException,
    StructuredDetector,
)
from torch import Tensor
from torch.nn import Module

from .expect import ContractError, attempt, checks_of, expect, expect_same_scores
from .observe import modules_of

__all__ = ["Declarations"]

Batches = list[tuple[Tensor, Tensor]]

# base class -> its representation, and the attribute that makes it of inputs
_REPRESENTATIONS = {
    LogitsDetector: ("logits", "model"),
    FeaturesDetector: ("features", "encoder"),
    FeatureMapsDetector: ("feature_maps", "backbone"),
    StructuredDetector: ("structured", None),
}


class Declarations:
    """
    The declarations, with defaults that fit a simple detector. A subclass overrides what differs.
    """

    #: checks that are known to fail, by name, each with the reason; one that passes is an error
    expected_failures: ClassVar[dict[str, str]] = {}
    #: scores have the shape (B, H, W), one per pixel, instead of (B,)
    grid_scores: ClassVar[bool] = False
    #: samples with a label below 0 take part in the fit (e.g. the detector learns from them)
    ood_labels_change_fit: ClassVar[bool] = False
    #: the model is called in the mode it is in (as pytorch-ood's logits and features detectors
    #: document), so that in training mode batch norm and dropout do what they do there
    runs_model_as_is: ClassVar[bool] = False
    #: values that each hyper-parameter must refuse; default: NaN, and a text that is no candidate
    bad_hyperparameters: ClassVar[dict[str, list[Any]]] = {}
    #: candidates for the grid search; default: the first two values of each hyper-parameter
    search_space: ClassVar[dict[str, list[Any]]] = {}
    #: how far scores may differ that are equal but for rounding
    rtol: ClassVar[float] = 1e-4
    atol: ClassVar[float] = 1e-5
    #: how far scores may move, as share of their standard deviation, when the detector is fitted
    #: again to samples that were rounded otherwise: eigenvectors carry rounding of float32 (6e-8)
    #: times the condition of a covariance (up to 1e5), solvers stop at 1e-3
    refit_tolerance: ClassVar[float] = 1e-2

    #: names of the checks that ran, filled by them
    executed: ClassVar[set[str]] = set()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.executed = set()
        unknown = sorted(set(cls.expected_failures) - set(checks_of(cls)))
        if unknown:
            raise TypeError(
                f"{cls.__name__}.expected_failures names checks that do not exist: {unknown}. "
                f"The checks are: {checks_of(cls)}"
            )

    # -- what a subclass may override -----------------------------------------------------------

    def anomaly(self, x: Tensor) -> Tensor:
        """
        :param x: ID inputs
        :return: as many inputs that must score higher than they do
        """
        raise ContractError(
            f"{type(self).__name__} must declare anomaly(x): inputs made from the ID inputs x "
            f"that the detector has to score higher, e.g. noise for an OOD detector."
        )

    def other_id(self, x: Tensor) -> Tensor:
        """
        :param x: ID inputs
        :return: as many inputs of a different distribution, to fit on a second time
        """
        return 0.5 * x + 0.3

    def without_model(self, detector: Any) -> Any:
        """
        :param detector: the detector
        :return: the same one without a model, unfitted; may raise ``ModelNotSetException``
        """
        return type(detector)(None)

    def models(self, detector: Any) -> list[Module]:
        """
        :param detector: the detector
        :return: the user's modules that it holds
        """
        return modules_of(detector)

    def representation(self, detector: Any, x: Tensor) -> Any:
        """
        :param detector: the detector, with model
        :param x: inputs
        :return: what its ``predict_logits``, ``predict_features``, ``predict_feature_maps`` or
            ``predict_structured`` takes for ``x``; a tuple for several arguments
        """
        name, attribute = _representation_of(detector)
        producer = getattr(detector, attribute, None) if attribute else None
        if producer is None:
            raise ContractError(
                f"{type(self).__name__} must declare representation(detector, x): what "
                f"{type(detector).__name__}.predict_{name} takes for the inputs x."
            )
        with torch.no_grad():
            return producer(x)

    # -- how the checks use it ------------------------------------------------------------------

    def representation_name(self, detector: Any) -> str | None:
        """``logits``, ``features``, ...; ``None`` if the detector takes raw inputs only."""
        name = _representation_of(detector)[0]
        return name if name and hasattr(detector, f"predict_{name}") else None

    def batches(self, loader: Iterable[Any]) -> Batches:
        """Batches of the loader fixture, at least two of at least two samples, all of them ID."""
        batches = [(batch[0], batch[1]) for batch in loader]
        enough = len(batches) >= 2 and all(len(x) >= 2 for x, _ in batches)
        expect(enough, "loader must yield at least two batches (x, y) of at least two samples")
        known = all(bool((y >= 0).all()) for _, y in batches)
        expect(known, "loader must yield ID samples only, labels 0 and above")
        return batches

    def samples(self, loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
        """All inputs and all labels of the loader fixture."""
        inputs, labels = zip(*self.batches(loader), strict=True)
        return torch.cat(inputs), torch.cat(labels)

    def fit(self, detector: Any, loader: Iterable[Any], what: str = "fit(loader)") -> Any:
        """What ``fit`` returns; ``what`` is done, for the message."""
        torch.manual_seed(0)
        return attempt(what, lambda: detector.fit(loader))

    def scores(self, detector: Any, x: Tensor, what: str = "predict(x)") -> Tensor:
        """Scores of a fitted detector; ``what`` is done, for the message."""
        torch.manual_seed(0)
        scores: Tensor = attempt(what, lambda: detector.predict(x))
        expect(isinstance(scores, Tensor), f"{what} must return a tensor, got {type(scores)}")
        return scores

    def fitted_scores(self, detector: Any, loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
        """All inputs of the loader fixture, and their scores once the detector is fitted."""
        self.fit(detector, self.batches(loader))
        x, _ = self.samples(loader)
        return x, self.scores(detector, x)

    def use(self, detector: Any, verb: str, x: Any, *labels: Tensor) -> Any:
        """What ``predict_<representation>`` or ``fit_<representation>`` returns."""
        name = f"{verb}_{self.representation_name(detector)}"
        arguments = x if isinstance(x, tuple) else (x,)
        torch.manual_seed(0)
        return getattr(detector, name)(*arguments, *labels)

    def same(self, actual: Tensor, wanted: Tensor, what: str) -> None:
        """Scores must be equal; ``what`` is compared, for the message."""
        expect_same_scores(actual, wanted, what, self.rtol, self.atol)

    def modelless(self, detector: Any) -> Any:
        """The same detector without a model; ``None`` if it cannot be made without one."""
        try:
            return self.without_model(detector)
        except ModelNotSetException:
            return None
        except Exception as error:
            raise ContractError(
                f"{type(detector).__name__} without a model must be constructible, or raise "
                f"ModelNotSetException; got {type(error).__name__}: {error}. If it takes other "
                f"arguments than the model, declare without_model(detector)."
            ) from error


def _representation_of(detector: Any) -> tuple[str | None, str | None]:
    for base, names in _REPRESENTATIONS.items():
        if isinstance(detector, base):
            return names
    return None, None
