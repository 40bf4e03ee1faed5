"""
Check 7: copies of the detector, and forms of the input.
"""

import copy
import io
import pickle
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .data import all_samples, pairwise_auroc
from .declarations import Declarations
from .expect import attempt, check, expect

__all__ = ["CopyChecks", "InputChecks"]


class CopyChecks(Declarations):
    """Check 7, first half: a detector can be moved, copied, pickled, saved and loaded."""

    @check
    def test_07_moving_keeps_the_scores(self, detector: Any, loader: Any) -> None:
        """``to(device)`` returns the detector and moves all of it."""
        x, wanted = self.fitted_scores(detector, loader)
        devices = ["cpu"] + (["cuda", "cpu"] if torch.cuda.is_available() else [])
        for device in devices:
            moved = attempt(f"to({device!r})", partial(detector.to, device))
            expect(moved is detector, "to(device) must return the detector itself")
            scores = self.scores(detector, x.to(device), f"predict after to({device!r})")
            self.same(scores, wanted, f"Scores must be the same after to({device!r})")

    @check
    def test_07_deepcopy_is_independent(self, detector: Any, loader: Any) -> None:
        """A deep copy gives the same scores, and fitting it does not change the original."""
        x, wanted = self.fitted_scores(detector, loader)
        twin = attempt("copy.deepcopy(detector)", lambda: copy.deepcopy(detector))
        self.same(self.scores(twin, x), wanted, "A deep copy must give the same scores")
        self.fit(twin, self.batches(loader).map(self.other_id))
        self.same(self.scores(detector, x), wanted, "Fitting a copy must not change the original")

    @check
    def test_07_pickle_keeps_the_scores(self, detector: Any, loader: Any) -> None:
        """A fitted detector can be pickled, as multiprocessing and caching do."""
        x, wanted = self.fitted_scores(detector, loader)
        data = attempt("pickle.dumps(detector)", lambda: pickle.dumps(detector))
        twin = attempt("pickle.loads", lambda: pickle.loads(data))
        self.same(self.scores(twin, x), wanted, "A pickled detector must give the same scores")

    @check
    def test_07_state_round_trips(self, detector: Any, loader: Any) -> None:
        """``state_dict`` and ``load_state_dict``, where the class has them, carry the fit over."""
        expect(
            hasattr(detector, "state_dict") == hasattr(detector, "load_state_dict"),
            f"{type(detector).__name__} must have both state_dict and load_state_dict, or neither",
        )
        unfitted = attempt("copy.deepcopy(detector)", lambda: copy.deepcopy(detector))
        x, wanted = self.fitted_scores(detector, loader)
        if not hasattr(detector, "state_dict"):
            return
        stream = io.BytesIO()
        attempt("torch.save(state_dict())", lambda: torch.save(detector.state_dict(), stream))
        stream.seek(0)
        state = attempt(
            "torch.load(state, weights_only=True)",
            lambda: torch.load(stream, weights_only=True),
        )
        attempt("load_state_dict(state)", lambda: unfitted.load_state_dict(state))
        scores = self.scores(unfitted, x, "predict after load_state_dict")
        self.same(scores, wanted, "Scores after load_state_dict must be the same")


class InputChecks(Declarations):
    """Check 7, second half: precision, memory formats, and batches of one and of none."""

    @check
    def test_07_half_precision_works(self, detector: Any, loader: Any) -> None:
        """With model and inputs in half precision, anomalies still score higher."""
        self._expect_usable_in(torch.float16, detector, loader)

    @check
    def test_07_bfloat16_works(self, detector: Any, loader: Any) -> None:
        """With model and inputs in bfloat16, anomalies still score higher."""
        self._expect_usable_in(torch.bfloat16, detector, loader)

    @check
    def test_07_channels_last_gives_the_same_scores(self, detector: Any, loader: Any) -> None:
        """Inputs in channels_last, and a model that hands them on so, change no score."""
        x, wanted = self.fitted_scores(detector, loader)
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if x.dim() not in formats:
            return
        inputs = x.contiguous(memory_format=formats[x.dim()])
        for model in self.models(detector):
            model.to(memory_format=formats[x.dim()])
        scores = self.scores(detector, inputs, "predict on inputs in channels_last")
        self.same(scores, wanted, "Scores of inputs in channels_last must be the same")
        batches = self.batches(loader)
        batches = batches.map(lambda x: x.contiguous(memory_format=formats[x.dim()]))
        self.fit(detector, batches, "fit on inputs in channels_last")
        scores = self.scores(detector, x)
        self.same_after_refit(
            scores, wanted, "Scores after a fit on channels_last must be the same"
        )

    @check
    def test_07_strides_do_not_matter(self, detector: Any, loader: Any) -> None:
        """Non-contiguous inputs, as slicing and flipping make them, change no score."""
        x, wanted = self.fitted_scores(detector, loader)
        strided = torch.stack([x, torch.zeros_like(x)], dim=-1)[..., 0]
        expanded = x[:1].expand(3, *x.shape[1:])
        scores = self.scores(detector, strided, "predict on non-contiguous inputs")
        self.same(scores, wanted, "Scores of non-contiguous inputs must be the same")
        scores = self.scores(detector, expanded, "predict on expanded inputs")
        first = wanted[:1].expand(3, *wanted.shape[1:])
        self.same(scores, first, "Scores of expanded inputs must be the same")

    @check
    def test_07_batch_of_one(self, detector: Any, loader: Any) -> None:
        """A single sample gets one score, with its batch dimension."""
        x, wanted = self.fitted_scores(detector, loader)
        scores = self.scores(detector, x[:1], "predict on a batch of one")
        self.same(scores, wanted[:1], "The score of a batch of one must be the same")

    @check
    def test_07_empty_batch(self, detector: Any, loader: Any) -> None:
        """No samples get no scores."""
        x, wanted = self.fitted_scores(detector, loader)
        scores = self.scores(detector, x[:0], "predict on an empty batch")
        shape, empty = tuple(scores.shape), (0, *wanted.shape[1:])
        expect(shape == empty, f"An empty batch must get scores of shape {empty}, got {shape}")

    def _expect_usable_in(self, dtype: torch.dtype, detector: Any, loader: Any) -> None:
        for model in self.models(detector):
            model.to(dtype)
        batches = self.batches(loader)
        anomalies = batches.map(self.anomaly).map(lambda x: x.to(dtype))
        batches = batches.map(lambda x: x.to(dtype))
        self.fit(detector, batches, f"fit with model and inputs in {dtype}")
        scores = self._finite(detector, all_samples(batches)[0], dtype)
        others = self._finite(detector, all_samples(anomalies)[0], dtype)
        auroc = pairwise_auroc(scores, others)
        expect(auroc > 0.5, f"Anomalies must score higher in {dtype} too: AUROC {auroc:.3f}")

    def _finite(self, detector: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        scores = self.scores(detector, x, f"predict with model and inputs in {dtype}")
        good = scores.is_floating_point() and bool(scores.isfinite().all())
        expect(good, f"Scores with model and inputs in {dtype} must be finite floats")
        return scores
