"""
Check 7: copies of the detector, and forms of the input, which must not change scores.
"""

import copy
import io
import pickle
from functools import partial
from typing import Any

import torch

from .declarations import Declarations
from .expect import attempt, check, expect, expect_same_scores
from .observe import pairwise_auroc

__all__ = ["FormChecks"]


class FormChecks(Declarations):
    """
    A detector can be moved, copied, pickled, saved and loaded; it takes any precision, memory
    format and size of batch.
    """

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
        self.fit(twin, [(self.other_id(x), y) for x, y in self.batches(loader)])
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
        load = partial(torch.load, stream, weights_only=True)
        state = attempt("torch.load(state, weights_only=True)", load)
        attempt("load_state_dict(state)", lambda: unfitted.load_state_dict(state))
        scores = self.scores(unfitted, x, "predict after load_state_dict")
        self.same(scores, wanted, "Scores after load_state_dict must be the same")

    @check
    def test_07_half_precision_works(self, detector: Any, loader: Any) -> None:
        """With model and inputs in half precision, anomalies still score higher."""
        self._expect_usable_in(torch.float16, detector, loader)

    @check
    def test_07_bfloat16_works(self, detector: Any, loader: Any) -> None:
        """With model and inputs in bfloat16, anomalies still score higher."""
        self._expect_usable_in(torch.bfloat16, detector, loader)

    def _expect_usable_in(self, dtype: torch.dtype, detector: Any, loader: Any) -> None:
        where = f"with model and inputs in {dtype}"
        for model in self.models(detector):
            model.to(dtype)
        batches = self.batches(loader)
        self.fit(detector, [(x.to(dtype), y) for x, y in batches], f"fit {where}")
        x = torch.cat([x for x, _ in batches]).to(dtype)
        anomalies = torch.cat([self.anomaly(x) for x, _ in batches]).to(dtype)
        found = [self.scores(detector, each, f"predict {where}") for each in (x, anomalies)]
        good = all(each.is_floating_point() and each.isfinite().all() for each in found)
        expect(good, f"Scores {where} must be finite floats")
        auroc = pairwise_auroc(*found)
        expect(auroc > 0.5, f"Anomalies must score higher in {dtype} too: AUROC {auroc:.3f}")

    @check
    def test_07_channels_last_gives_the_same_scores(self, detector: Any, loader: Any) -> None:
        """Inputs in channels_last, and a model that hands them on so, change no score."""
        x, wanted = self.fitted_scores(detector, loader)
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if x.dim() not in formats:
            return
        last = {"memory_format": formats[x.dim()]}
        for model in self.models(detector):
            model.to(**last)
        scores = self.scores(detector, x.contiguous(**last), "predict on inputs in channels_last")
        self.same(scores, wanted, "Scores of inputs in channels_last must be the same")
        batches = [(x.contiguous(**last), y) for x, y in self.batches(loader)]
        self.fit(detector, batches, "fit on inputs in channels_last")
        # a fit to samples that were rounded otherwise moves what it fits
        spread = float(wanted.detach().double().std())
        expect_same_scores(
            self.scores(detector, x),
            wanted,
            f"Scores after a fit on channels_last must be the same to {self.refit_tolerance:g} of "
            f"their standard deviation {spread:.3g} (what rounding does to a fitted statistic; "
            f"samples or axes that are mixed up do far more)",
            self.rtol,
            max(self.atol, self.refit_tolerance * spread),
        )

    @check
    def test_07_strides_do_not_matter(self, detector: Any, loader: Any) -> None:
        """Non-contiguous inputs, as slicing and flipping make them, change no score."""
        x, wanted = self.fitted_scores(detector, loader)
        strided = torch.stack([x, torch.zeros_like(x)], dim=-1)[..., 0]
        expanded = x[:1].expand(3, *x.shape[1:])
        first = wanted[:1].expand(3, *wanted.shape[1:])
        for kind, inputs, same in (
            ("non-contiguous", strided, wanted),
            ("expanded", expanded, first),
        ):
            scores = self.scores(detector, inputs, f"predict on {kind} inputs")
            self.same(scores, same, f"Scores of {kind} inputs must be the same")

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
        shape = tuple(self.scores(detector, x[:0], "predict on an empty batch").shape)
        empty = (0, *wanted.shape[1:])
        expect(shape == empty, f"An empty batch must get scores of shape {empty}, got {shape}")
