"""
What a subclass of the contract declares about its detector, and how the checks use it.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from pytorch_ood.api import (
    Detector,
    FeatureMapsDetector,
    FeaturesDetector,
    LogitsDetector,
    ModelNotSetException,
    StructuredDetector,
)
from torch import Tensor
from torch.nn import Module

from .data import Batches, all_samples
from .expect import ContractError, attempt, checks_of, expect, expect_same_scores
from .observe import modules_of

__all__ = ["Declarations"]

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
        name, attribute = self._representation_of(detector)
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
        """
        :param detector: the detector
        :return: ``logits``, ``features``, ...; ``None`` if it takes raw inputs only
        """
        name = self._representation_of(detector)[0]
        return name if name and hasattr(detector, f"predict_{name}") else None

    def batches(self, loader: Iterable[Any]) -> Batches:
        """
        :param loader: the loader fixture
        :return: its batches, at least two of at least two samples, all of them ID
        """
        batches = Batches([(batch[0], batch[1]) for batch in loader])
        enough = len(batches) >= 2 and all(len(x) >= 2 for x, _ in batches)
        expect(enough, "loader must yield at least two batches (x, y) of at least two samples")
        known = all(bool((y >= 0).all()) for _, y in batches)
        expect(known, "loader must yield ID samples only, labels 0 and above")
        return batches

    def fit(self, detector: Any, loader: Iterable[Any], what: str = "fit(loader)") -> Any:
        """
        :param detector: the detector
        :param loader: yields ``(x, y)``
        :param what: what is done, for the message
        :return: what its ``fit`` returns
        """
        torch.manual_seed(0)
        return attempt(what, lambda: detector.fit(loader))

    def scores(self, detector: Any, x: Tensor, what: str = "predict(x)") -> Tensor:
        """
        :param detector: the fitted detector
        :param x: inputs
        :param what: what is done, for the message
        :return: its scores
        """
        torch.manual_seed(0)
        scores = attempt(what, lambda: detector.predict(x))
        expect(isinstance(scores, Tensor), f"{what} must return a tensor, got {type(scores)}")
        result: Tensor = scores
        return result

    def fitted_scores(self, detector: Any, loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
        """
        :param detector: the unfitted detector; fitted afterwards
        :param loader: the loader fixture
        :return: all inputs and their scores
        """
        batches = self.batches(loader)
        self.fit(detector, batches)
        x, _ = all_samples(batches)
        return x, self.scores(detector, x)

    def use(self, detector: Any, verb: str, x: Tensor, *labels: Tensor) -> Callable[[], Any]:
        """
        :param detector: a detector of the same kind, perhaps without a model
        :param verb: ``fit`` or ``predict``
        :param x: the representation of some inputs
        :param labels: their labels, for ``fit``
        :return: calls ``predict_<representation>`` or ``fit_<representation>``
        """
        method = getattr(detector, f"{verb}_{self.representation_name(detector)}")
        arguments = x if isinstance(x, tuple) else (x,)
        return lambda: method(*arguments, *labels)

    def same(self, actual: Tensor, wanted: Tensor, what: str) -> None:
        """
        :param actual: scores
        :param wanted: what they must equal
        :param what: what is compared, for the message
        """
        expect_same_scores(actual, wanted, what, self.rtol, self.atol)

    def same_after_refit(self, actual: Tensor, wanted: Tensor, what: str) -> None:
        """
        :param actual: scores after a fit to the same samples, rounded otherwise
        :param wanted: what they must equal, but for what a fitted statistic makes of rounding
        :param what: what is compared, for the message
        """
        spread = float(wanted.detach().double().std()) if wanted.numel() > 1 else 0.0
        what = (
            f"{what} to {self.refit_tolerance:g} of their standard deviation {spread:.3g} (what "
            f"rounding does to a fitted statistic; samples or axes that are mixed up do far more)"
        )
        atol = max(self.atol, self.refit_tolerance * spread)
        expect_same_scores(actual, wanted, what, self.rtol, atol)

    def modelless(self, detector: Any) -> Any:
        """
        :param detector: the detector
        :return: the same one without a model; ``None`` if it cannot be made without one
        """
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

    def _representation_of(self, detector: Detector) -> tuple[str | None, str | None]:
        for base, names in _REPRESENTATIONS.items():
            if isinstance(detector, base):
                return names
        return None, None
