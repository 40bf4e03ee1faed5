"""
Checks 8 and 9: hyper-parameters, grid search and benchmarks.
"""

import math
from typing import Any

import torch
from pytorch_ood.utils import GridSearch
from torch import Tensor

from .data import Brightness, ToyBenchmark, all_samples, pairwise_auroc
from .declarations import Declarations
from .expect import attempt, check, expect, expect_raises

__all__ = ["BenchmarkChecks", "HyperparameterChecks"]

_BATCH = 8


class HyperparameterChecks(Declarations):
    """Check 8: hyper-parameters can be read, set, refused and searched."""

    @check
    def test_08_hyperparameters_round_trip(self, detector: Any, loader: Any) -> None:
        """Every value of the search space can be set and read back."""
        space = detector.hyperparameter_space
        before = attempt("get_hyperparameters()", detector.get_hyperparameters)
        expect(set(before) == set(space), f"get_hyperparameters() must give {sorted(space)}")
        for name, values in space.items():
            expect(len(values) > 0, f"hyperparameter_space[{name!r}] must not be empty")
            for value in values:
                self._set(detector, **{name: value})
                got = detector.get_hyperparameters()[name]
                expect(got == value, f"{name} must be {value!r} after setting it, got {got!r}")
        self._set(detector, **before)
        after = detector.get_hyperparameters()
        expect(after == before, f"Setting what was read must restore {before}, got {after}")

    @check
    def test_08_unknown_hyperparameters_raise(self, detector: Any, loader: Any) -> None:
        """A misspelt name raises ``ValueError`` and sets nothing."""
        before = detector.get_hyperparameters()
        what = "set_hyperparameters(no_such_name=1)"
        expect_raises(what, lambda: detector.set_hyperparameters(no_such_name=1), ValueError)
        expect(not hasattr(detector, "no_such_name"), f"{what} must set nothing")
        after = detector.get_hyperparameters()
        expect(after == before, f"{what} must leave {before}, got {after}")

    @check
    def test_08_bad_values_raise(self, detector: Any, loader: Any) -> None:
        """Values that make no sense raise ``ValueError`` or ``TypeError`` and set nothing."""
        before = detector.get_hyperparameters()
        for name in detector.hyperparameter_space:
            for value in self.bad_hyperparameters.get(name, [math.nan, "no such value"]):
                what = f"set_hyperparameters({name}={value!r})"
                action = _setter(detector, {name: value})
                expect_raises(what, action, ValueError, TypeError)
                after = detector.get_hyperparameters()
                expect(after == before, f"{what} must leave {before}, got {after}")

    @check
    def test_08_grid_search_leaves_the_best(self, detector: Any, loader: Any) -> None:
        """``GridSearch`` leaves the detector fitted, with the best values and their score."""
        batches = self.batches(loader)
        x, y = all_samples(batches)
        anomalies = self.anomaly(x)
        mixed = [(x, y), (anomalies, torch.full_like(y, -1))]
        space = self.search_space or {
            name: values[:2] for name, values in detector.hyperparameter_space.items()
        }
        if not space:
            what = "GridSearch on an empty hyperparameter_space"
            expect_raises(what, lambda: GridSearch(detector, batches, mixed), ValueError)
            return
        torch.manual_seed(0)
        search = GridSearch(detector, batches, mixed, hyperparameter_space=space)
        best = attempt("GridSearch.run()", search.run)
        values = detector.get_hyperparameters()
        kept = {name: values[name] for name in best}
        expect(kept == best, f"GridSearch found {best}, but left the detector with {kept}")
        auroc = pairwise_auroc(self.scores(detector, x), self.scores(detector, anomalies))
        expect(
            math.isclose(auroc, search.best_score_, abs_tol=1e-3),
            f"GridSearch reports AUROC {search.best_score_:.4f} for the best values, but the "
            f"detector that it leaves has {auroc:.4f}",
        )

    def _set(self, detector: Any, **values: Any) -> None:
        returned = attempt(f"set_hyperparameters({values})", _setter(detector, values))
        expect(returned is detector, "set_hyperparameters must return the detector itself")


class BenchmarkChecks(Declarations):
    """Check 9: ``Benchmark.evaluate`` takes the detector, alone and in a list."""

    @check
    def test_09_benchmark_alone(self, detector: Any, loader: Any) -> None:
        """The benchmark's AUROC is that of the detector's scores."""
        benchmark, auroc, _ = self._benchmark(detector, loader)
        results = attempt(
            "Benchmark.evaluate(detector)",
            lambda: benchmark.evaluate(detector, loader_kwargs={"batch_size": _BATCH}),
        )
        expect(len(results) == 1, f"A benchmark of one OOD set must give one result: {results}")
        self._expect_result(results[0], auroc, "Benchmark.evaluate(detector)")

    @check
    def test_09_benchmark_in_a_list(self, detector: Any, loader: Any) -> None:
        """In a list, the benchmark's result is the same and names the detector by its class."""
        benchmark, auroc, scores = self._benchmark(detector, loader)
        pair = [Brightness(like=scores), detector]
        what = "Benchmark.evaluate([other, detector])"
        results = attempt(
            what, lambda: benchmark.evaluate(pair, loader_kwargs={"batch_size": _BATCH})
        )
        by_name = {result.get("Detector"): result for result in results}
        name = type(detector).__name__
        expect(name in by_name, f"{what} must give a result for {name}, got {list(by_name)}")
        self._expect_result(by_name[name], auroc, what)

    def _benchmark(self, detector: Any, loader: Any) -> tuple[ToyBenchmark, float, Tensor]:
        x, scores = self.fitted_scores(detector, loader)
        _, y = all_samples(self.batches(loader))
        anomalies = self.anomaly(x)
        auroc = pairwise_auroc(scores, self.scores(detector, anomalies))
        return ToyBenchmark((x, y), (anomalies, torch.full_like(y, -1))), auroc, scores

    def _expect_result(self, result: Any, auroc: float, what: str) -> None:
        expect(
            math.isclose(float(result["AUROC"]), auroc, abs_tol=1e-3),
            f"{what} must report the AUROC of the detector's scores, {auroc:.4f}, got "
            f"{float(result['AUROC']):.4f}",
        )


def _setter(detector: Any, values: dict[str, Any]) -> Any:
    return lambda: detector.set_hyperparameters(**values)
