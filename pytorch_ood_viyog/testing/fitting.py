"""
Check 3: what ``fit`` does to the state.
"""

from typing import Any

import torch
from torch import Tensor

from .data import Batches, LoaderError, all_samples
from .declarations import Declarations
from .expect import attempt, check, expect, expect_raises

__all__ = ["FittingChecks"]


class FittingChecks(Declarations):
    """Check 3: fitting returns the detector and replaces its state, or leaves it."""

    @check
    def test_03_fit_returns_the_detector(self, detector: Any, loader: Any) -> None:
        """``fit`` and ``fit_<representation>`` return the detector itself."""
        batches = self.batches(loader)
        expect(self.fit(detector, batches) is detector, "fit must return the detector itself")
        name = self.representation_name(detector)
        if name is not None and detector.requires_fit:
            x, y = all_samples(batches)
            fit = self.use(detector, "fit", self.representation(detector, x), y)
            returned = attempt(f"fit_{name}", fit)
            expect(returned is detector, f"fit_{name} must return the detector itself")

    @check
    def test_03_refit_replaces_the_state(self, detector: Any, loader: Any) -> None:
        """Fitting again gives the scores of a detector that was fitted once."""
        batches = self.batches(loader)
        others = batches.map(self.other_id)
        x, _ = all_samples(batches)
        self.fit(detector, batches)
        once = self.scores(detector, x)
        self.fit(detector, others, "fit on a second loader")
        other = self.scores(detector, x)
        self.fit(detector, batches, "fit on the first loader again")
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
        batches = self.batches(loader)
        x, _ = all_samples(batches)
        self.fit(detector, batches)
        before = self.scores(detector, x)
        first = batches.map(self.other_id).batches[:1]
        if detector.requires_fit:
            broken = Batches(first, fault=LoaderError("the loader failed"))
            expect_raises("fit on a failing loader", lambda: detector.fit(broken), LoaderError)
            self._expect_kept(detector, x, before, "a failing loader")
            self._try_without_id(detector, batches.map(self.other_id))
            self._expect_kept(detector, x, before, "a loader without ID samples")
        try:
            detector.fit(batches.map(lambda x: torch.full_like(x, torch.nan)))
        except Exception:
            self._expect_kept(detector, x, before, "a loader that yields NaN")

    @check
    def test_03_ood_labels_do_not_change_the_fit(self, detector: Any, loader: Any) -> None:
        """Samples with a label below 0 are left out, unless the detector declares otherwise."""
        batches = self.batches(loader)
        x, _ = all_samples(batches)
        self.fit(detector, batches)
        wanted = self.scores(detector, x)
        anomalies = batches.map(self.anomaly, _ood)
        polluted = Batches([*anomalies.batches, *batches.batches])
        self.fit(detector, polluted, "fit on a loader with OOD labels (below 0)")
        self._compare_polluted(detector, x, wanted, "fit")
        name = self.representation_name(detector)
        if name is None or not detector.requires_fit:
            return
        how = f"fit_{name}"
        self._fit_represented(detector, batches, how)
        wanted = self.scores(detector, x)
        self._fit_represented(detector, polluted, f"{how} with OOD labels (below 0)")
        self._compare_polluted(detector, x, wanted, how)

    def _fit_represented(self, detector: Any, batches: Batches, what: str) -> None:
        x, y = all_samples(batches)
        torch.manual_seed(0)
        attempt(what, self.use(detector, "fit", self.representation(detector, x), y))

    def _compare_polluted(self, detector: Any, x: Tensor, wanted: Tensor, how: str) -> None:
        scores = self.scores(detector, x)
        if self.ood_labels_change_fit:
            expect(
                not torch.equal(scores, wanted),
                f"ood_labels_change_fit is declared, but OOD samples did not change the {how}",
            )
            return
        self.same(
            scores,
            wanted,
            f"Samples with labels below 0 are OOD and must not change the {how} (or declare "
            f"ood_labels_change_fit)",
        )

    def _try_without_id(self, detector: Any, batches: Batches) -> None:
        def fit() -> Any:
            return detector.fit(batches.map(labels=_ood))

        if not self.ood_labels_change_fit:
            expect_raises("fit on a loader without ID samples", fit, ValueError)

    def _expect_kept(self, detector: Any, x: Tensor, before: Tensor, what: str) -> None:
        scores = self.scores(detector, x, f"predict after a failed fit on {what}")
        self.same(scores, before, f"A failed fit must keep the old state, but after {what}")


def _ood(labels: Tensor) -> Tensor:
    return torch.full_like(labels, -1)
