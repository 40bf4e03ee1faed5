"""
Checks 4 and 5: what scores are, whatever the batch and the representation.
"""

from functools import partial
from typing import Any

import torch

from .declarations import Declarations
from .expect import attempt, check, expect
from .observe import in_micro_batches, pairwise_auroc

__all__ = ["ScoreChecks"]


class ScoreChecks(Declarations):
    """Scores of raw inputs, and of what the model makes of them."""

    # -- check 4: shape, type and values --------------------------------------------------------

    @check
    def test_04_scores_are_one_finite_float_per_sample(self, detector: Any, loader: Any) -> None:
        """Shape (B,), or (B, H, W) where declared; floating point; finite."""
        x, scores = self.fitted_scores(detector, loader)
        if self.grid_scores:
            good = scores.dim() == 3 and scores.shape[0] == x.shape[0]
            expect(good, f"Scores must have shape (B, H, W), got {tuple(scores.shape)}")
        else:
            good = scores.shape == x.shape[:1]
            expect(good, f"Scores must have shape (B,) = {(len(x),)}, got {tuple(scores.shape)}")
        expect(scores.is_floating_point(), f"Scores must be floating point, got {scores.dtype}")
        expect(bool(scores.isfinite().all()), "Scores must be finite, got NaN or inf")
        called = attempt("Calling the detector", lambda: detector(x))
        expect(called.shape == scores.shape, "Calling the detector must be its predict")

    @check
    def test_04_scores_carry_no_gradient(self, detector: Any, loader: Any) -> None:
        """Scores are detached, also where gradients are on and the input requires them."""
        x, _ = self.fitted_scores(detector, loader)
        with torch.enable_grad():
            plain = self.scores(detector, x)
            leaf = self.scores(detector, x.clone().requires_grad_())
        expect(
            not plain.requires_grad,
            "Scores must carry no gradient: they keep the graph of the whole forward pass alive "
            "and cannot be converted to numpy",
        )
        expect(not leaf.requires_grad, "Scores must carry no gradient towards the input")

    @check
    def test_04_scores_do_not_depend_on_the_batch(self, detector: Any, loader: Any) -> None:
        """A sample's score is the same alone, in any split, and in any order."""
        x, wanted = self.fitted_scores(detector, loader)
        for size in (1, 3):
            parts = [self.scores(detector, part) for part in torch.split(x, size)]
            self.same(torch.cat(parts), wanted, f"Scores in batches of {size} must be the same")
        backwards = self.scores(detector, x.flip(0))
        self.same(backwards.flip(0), wanted, "Scores in reversed order must be the same")

    @check
    def test_04_parts_inside_the_model_do_not_matter(self, detector: Any, loader: Any) -> None:
        """A model that runs in micro-batches inside gives each sample the same score."""
        x, wanted = self.fitted_scores(detector, loader)
        with in_micro_batches(self.models(detector)):
            scores = self.scores(detector, x)
        self.same(scores, wanted, "Scores of a model that runs in micro-batches must be the same")

    @check
    def test_04_anomalies_score_higher(self, detector: Any, loader: Any) -> None:
        """The declared anomalies score higher than the ID samples that they are made from."""
        x, scores = self.fitted_scores(detector, loader)
        anomalies = self.anomaly(x)
        expect(anomalies.shape == x.shape, "anomaly(x) must keep the shape of x")
        auroc = pairwise_auroc(scores, self.scores(detector, anomalies))
        expect(
            auroc > 0.5,
            f"Larger scores must mean more anomalous, but the declared anomalies score lower than "
            f"the ID samples: AUROC {auroc:.3f}",
        )

    # -- check 5: raw inputs and the matching representation ------------------------------------

    @check
    def test_05_representation_gives_the_same_scores(self, detector: Any, loader: Any) -> None:
        """``predict`` on inputs equals ``predict_<representation>`` on what the model makes."""
        x, wanted = self.fitted_scores(detector, loader)
        if name := self._representation(detector):
            z = self.representation(detector, x)
            scores = attempt(f"predict_{name}", lambda: self.use(detector, "predict", z))
            self.same(scores, wanted, f"predict and predict_{name} must give the same scores")

    @check
    def test_05_fit_on_representation_is_the_same(self, detector: Any, loader: Any) -> None:
        """``fit`` equals ``fit_<representation>``; it needs no model, nor does predicting."""
        x, wanted = self.fitted_scores(detector, loader)
        bare = self.modelless(detector)
        name = self._representation(detector)
        if name is None:
            return
        _, y = self.samples(loader)
        if detector.requires_fit:
            for fitted in (detector, bare) if bare is not None else (detector,):
                z = self.representation(detector, x)
                attempt(f"fit_{name}", partial(self.use, fitted, "fit", z, y))
            scores = self.scores(detector, x)
            self.same(scores, wanted, f"fit and fit_{name} must give the same scores")
        if bare is not None:
            z = self.representation(detector, x)
            scores = attempt(f"predict_{name}", lambda: self.use(bare, "predict", z))
            self.same(scores, wanted, f"predict_{name} must give the same scores without model")

    def _representation(self, detector: Any) -> str | None:
        """Its name; a detector without one must not have the methods of one nonetheless."""
        name = self.representation_name(detector)
        methods = ("predict_logits", "predict_feature_maps", "predict_structured")
        found = [method for method in methods if hasattr(detector, method)]
        expect(
            name is not None or not found,
            f"{type(detector).__name__} has {found}, but none of the base classes LogitsDetector, "
            f"FeaturesDetector, FeatureMapsDetector and StructuredDetector",
        )
        return name
