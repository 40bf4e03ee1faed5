"""
Checks 1 to 3: what a detector says about itself, use before it is ready, and what ``fit`` does.
"""

import inspect
from collections.abc import Iterator
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
from torch import Tensor

from .declarations import Batches, Declarations
from .expect import attempt, check, expect, expect_raises

__all__ = ["FittingChecks"]


class LoaderError(Exception):
    """What a failing loader raises."""


class FailingLoader(Batches):
    """Yields its batches, and then raises."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from super().__iter__()
        raise LoaderError("the loader failed")


class FittingChecks(Declarations):
    """From the constructor to the fitted detector."""

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
        grids = isinstance(detector, LogitsDetector) and Task.SEGMENTATION in info.tasks
        if grids and not detector.requires_fit:
            logits = torch.linspace(-2, 2, 2 * 5 * 3 * 4).view(2, 5, 3, 4)
            what = "predict_logits on logits of shape (B, C, H, W), as info.tasks claims,"
            shape = tuple(attempt(what, lambda: detector.predict_logits(logits)).shape)
            said = f"{what} must give scores (B, H, W) = (2, 3, 4), got {shape}"
            expect(shape == (2, 3, 4), said)

    @check
    def test_01_signatures_match_the_base_class(self, detector: Any, loader: Any) -> None:
        """What the base class allows to call works: same parameters, by position and by name."""
        bases = [base for base in type(detector).__mro__ if base.__module__ == Detector.__module__]
        for base in bases:
            for name, method in vars(base).items():
                if not name.startswith("_") and inspect.isfunction(method):
                    _expect_compatible(type(detector), name, method, base)

    @check
    def test_02_unfitted_use_raises(self, detector: Any, loader: Any) -> None:
        """An unfitted detector raises ``RequiresFittingException`` if it requires fitting."""
        x, _ = self.samples(loader)
        if not detector.requires_fit:
            attempt("predict(x) with requires_fit = False", lambda: detector.predict(x))
            return
        expect_raises("Unfitted predict", lambda: detector.predict(x), RequiresFittingException)
        if name := self.representation_name(detector):
            z = self.representation(detector, x)
            what = f"Unfitted predict_{name}"
            expect_raises(what, lambda: self.use(detector, "predict", z), RequiresFittingException)

    @check
    def test_02_model_less_use_raises(self, detector: Any, loader: Any) -> None:
        """Without a model, what needs one raises ``ModelNotSetException``, the rest works."""
        batches, (x, y) = self.batches(loader), self.samples(loader)
        bare = self.modelless(detector)
        if bare is None:
            return
        if bare.requires_fit:
            expect_raises("fit without model", lambda: bare.fit(batches), ModelNotSetException)
        missing: tuple[type[Exception], ...] = (ModelNotSetException,)
        if self.representation_name(detector) is None:
            missing = (ModelNotSetException, RequiresFittingException)
        elif bare.requires_fit:
            z = self.representation(detector, x)
            what = "Fitting to a representation without model"
            attempt(what, lambda: self.use(bare, "fit", z, y))
        expect_raises("predict without model", lambda: bare.predict(x), *missing)

    @check
    def test_03_fit_returns_the_detector(self, detector: Any, loader: Any) -> None:
        """``fit`` and ``fit_<representation>`` return the detector itself."""
        batches, (x, y) = self.batches(loader), self.samples(loader)
        expect(self.fit(detector, batches) is detector, "fit must return the detector itself")
        name = self.representation_name(detector)
        if name is not None and detector.requires_fit:
            z = self.representation(detector, x)
            returned = attempt(f"fit_{name}", lambda: self.use(detector, "fit", z, y))
            expect(returned is detector, f"fit_{name} must return the detector itself")

    @check
    def test_03_refit_replaces_the_state(self, detector: Any, loader: Any) -> None:
        """Fitting again gives the scores of a detector that was fitted once."""
        x, once = self.fitted_scores(detector, loader)
        others = [(self.other_id(x), y) for x, y in self.batches(loader)]
        self.fit(detector, others, "fit on a second loader")
        other = self.scores(detector, x)
        self.fit(detector, self.batches(loader), "fit on the first loader again")
        self.same(
            self.scores(detector, x),
            once,
            "A refit must replace the state, but the scores after fit(a), fit(b), fit(a) are not "
            "those after fit(a)",
        )
        expect(
            not detector.requires_fit or not torch.equal(other, once),
            "A refit must replace the state, but a fit on other data changed no score. If it "
            "really should not, declare other_id(x).",
        )

    @check
    def test_03_failed_fit_keeps_the_state(self, detector: Any, loader: Any) -> None:
        """A fit that raises leaves the scores as they were."""
        x, before = self.fitted_scores(detector, loader)
        others = [(self.other_id(x), y) for x, y in self.batches(loader)]

        def expect_kept(what: str) -> None:
            scores = self.scores(detector, x, f"predict after a failed fit on {what}")
            self.same(scores, before, f"A failed fit must keep the old state, but after {what}")

        if detector.requires_fit:
            broken = FailingLoader(others[:1])
            expect_raises("fit on a failing loader", lambda: detector.fit(broken), LoaderError)
            expect_kept("a failing loader")
            if not self.ood_labels_change_fit:
                unknown = [(x, torch.full_like(y, -1)) for x, y in others]
                what = "a loader without ID samples"
                expect_raises(f"fit on {what}", lambda: detector.fit(unknown), ValueError)
            expect_kept("a loader without ID samples")
        try:
            detector.fit([(torch.full_like(x, torch.nan), y) for x, y in others])
        except Exception:
            expect_kept("a loader that yields NaN")

    @check
    def test_03_ood_labels_do_not_change_the_fit(self, detector: Any, loader: Any) -> None:
        """Samples with a label below 0 are left out, unless the detector declares otherwise."""
        batches = self.batches(loader)
        polluted = [(self.anomaly(x), torch.full_like(y, -1)) for x, y in batches] + batches
        x, wanted = self.fitted_scores(detector, loader)
        self.fit(detector, polluted, "fit on a loader with OOD labels (below 0)")
        self._expect_unpolluted(self.scores(detector, x), wanted, "fit")
        name = self.representation_name(detector)
        if name is not None and detector.requires_fit:
            how = f"fit_{name}"
            self._fit_represented(detector, batches, how)
            wanted = self.scores(detector, x)
            self._fit_represented(detector, polluted, f"{how} with OOD labels (below 0)")
            self._expect_unpolluted(self.scores(detector, x), wanted, how)

    def _fit_represented(self, detector: Any, batches: Batches, what: str) -> None:
        x, y = (torch.cat(part) for part in zip(*batches, strict=True))
        z = self.representation(detector, x)
        attempt(what, lambda: self.use(detector, "fit", z, y))

    def _expect_unpolluted(self, scores: Tensor, wanted: Tensor, how: str) -> None:
        if self.ood_labels_change_fit:
            said = f"ood_labels_change_fit is declared, but OOD samples did not change the {how}"
            expect(not torch.equal(scores, wanted), said)
        else:
            said = f"Samples with labels below 0 are OOD and must not change the {how} (or declare"
            self.same(scores, wanted, f"{said} ood_labels_change_fit)")


def _expect_compatible(kind: type, name: str, original: Any, base: type) -> None:
    """The method takes what the base class's takes, and asks for nothing else."""
    allowed = inspect.signature(original)
    wanted, own = allowed.parameters, inspect.signature(getattr(kind, name))
    if any(parameter.kind == parameter.VAR_POSITIONAL for parameter in wanted.values()):
        return  # the base class leaves the arguments to the detector
    given = own.parameters
    says, where = f"{kind.__name__}.{name}{own}", f"{base.__name__}.{name}{allowed}"
    if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in given.values()):
        missing = [name for name in wanted if name not in given]
        expect(not missing, f"{says} must take {missing} by name, as {where} does")
    required = [
        name
        for name, parameter in given.items()
        if name not in wanted
        and parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    expect(not required, f"{says} must give a default to {required}, unknown to {where}")
    order = [name for name in given if name in wanted]
    expect(order == list(wanted)[: len(order)], f"{says} must have the order of {where}")
