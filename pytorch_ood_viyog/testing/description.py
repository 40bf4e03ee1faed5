"""
Checks 1 and 2: what a detector says about itself, and use before it is ready.
"""

import inspect
from typing import Any

import torch
from pytorch_ood.api import (
    Detector,
    DetectorInfo,
    LogitsDetector,
    ModelNotSetException,
    RequiresFittingException,
    Task,
)

from .data import all_samples
from .declarations import Declarations
from .expect import attempt, check, expect, expect_raises

__all__ = ["DescriptionChecks", "ReadinessChecks"]

_API = "pytorch_ood.api"
_PLAIN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class DescriptionChecks(Declarations):
    """Check 1: ``info`` is there and true; signatures match the base class."""

    @check
    def test_01_info_is_there_and_true(self, detector: Any, loader: Any) -> None:
        """``info`` is a ``DetectorInfo`` whose claims hold."""
        name, info = type(detector).__name__, detector.info
        expect(isinstance(detector, Detector), f"{name} must be a pytorch_ood.api.Detector")
        expect(isinstance(info, DetectorInfo), f"{name}.info must be a DetectorInfo, got {info!r}")
        task = Task.SEGMENTATION if self.grid_scores else Task.CLASSIFICATION
        expect(task in info.tasks, f"{name}.info.tasks must contain {task}, got {info.tasks}")
        if info.paper is not None:
            paper = info.paper
            complete = paper.title and paper.venue and str(paper.url).startswith("http")
            expect(complete, f"{name}.info.paper must have a title, a venue and a link: {paper}")
        expect(isinstance(detector.requires_fit, bool), f"{name}.requires_fit must be a bool")
        expect(inspect.getdoc(type(detector)), f"{name} must have a docstring")
        if isinstance(detector, LogitsDetector) and Task.SEGMENTATION in info.tasks:
            self._expect_grid_scores(detector)

    @check
    def test_01_signatures_match_the_base_class(self, detector: Any, loader: Any) -> None:
        """What the base class allows to call works: same parameters, by position and by name."""
        for base in _api_bases(type(detector)):
            for name, method in vars(base).items():
                if not name.startswith("_") and inspect.isfunction(method):
                    _expect_compatible(type(detector), name, method, base)

    def _expect_grid_scores(self, detector: Any) -> None:
        if detector.requires_fit:
            return
        logits = torch.linspace(-2, 2, 2 * 5 * 3 * 4).view(2, 5, 3, 4)
        what = "predict_logits on logits of shape (B, C, H, W), as info.tasks claims,"
        scores = attempt(what, lambda: detector.predict_logits(logits))
        shape = tuple(scores.shape)
        expect(shape == (2, 3, 4), f"{what} must give scores (B, H, W) = (2, 3, 4), got {shape}")


class ReadinessChecks(Declarations):
    """Check 2: unfitted and model-less use raises the library's exceptions."""

    @check
    def test_02_unfitted_use_raises(self, detector: Any, loader: Any) -> None:
        """An unfitted detector raises ``RequiresFittingException`` if it requires fitting."""
        x, _ = all_samples(self.batches(loader))
        if not detector.requires_fit:
            attempt("predict(x) with requires_fit = False", lambda: detector.predict(x))
            return
        expect_raises("Unfitted predict", lambda: detector.predict(x), RequiresFittingException)
        name = self.representation_name(detector)
        if name is not None:
            predict = self.use(detector, "predict", self.representation(detector, x))
            expect_raises(f"Unfitted predict_{name}", predict, RequiresFittingException)

    @check
    def test_02_model_less_use_raises(self, detector: Any, loader: Any) -> None:
        """Without a model, what needs one raises ``ModelNotSetException``, the rest works."""
        batches = self.batches(loader)
        x, y = all_samples(batches)
        bare = self.modelless(detector)
        if bare is None:
            return
        if bare.requires_fit:
            expect_raises("fit without model", lambda: bare.fit(batches), ModelNotSetException)
        if self.representation_name(detector) is None:
            missing = (ModelNotSetException, RequiresFittingException)
            expect_raises("predict without model", lambda: bare.predict(x), *missing)
            return
        z = self.representation(detector, x)
        if bare.requires_fit:
            attempt("Fitting to a representation without model", self.use(bare, "fit", z, y))
        expect_raises("predict without model", lambda: bare.predict(x), ModelNotSetException)


def _api_bases(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__ == _API]


def _expect_compatible(kind: type, name: str, original: Any, base: type) -> None:
    method = getattr(kind, name)
    wanted, given = inspect.signature(original).parameters, inspect.signature(method).parameters
    if _variadic(wanted, inspect.Parameter.VAR_POSITIONAL):
        return  # the base class leaves the arguments to the detector
    says, where = f"{kind.__name__}.{name}", f"{base.__name__}.{name}{inspect.signature(original)}"
    says += str(inspect.signature(method))
    if not _variadic(given, inspect.Parameter.VAR_KEYWORD):
        missing = [name for name in wanted if name not in given]
        expect(not missing, f"{says} must take {missing} by name, as {where} does")
    required = [
        name
        for name, parameter in given.items()
        if name not in wanted and parameter.default is parameter.empty and parameter.kind in _PLAIN
    ]
    expect(not required, f"{says} must give a default to {required}, unknown to {where}")
    order = [name for name in given if name in wanted]
    expect(order == list(wanted)[: len(order)], f"{says} must have the order of {where}")


def _variadic(parameters: Any, kind: Any) -> bool:
    return any(parameter.kind == kind for parameter in parameters.values())
