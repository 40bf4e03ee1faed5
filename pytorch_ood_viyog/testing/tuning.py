"""
Checks 8 and 9: hyper-parameters, grid search and benchmarks.
"""

import math
from functools import partial
from typing import Any, ClassVar

import torch
from pytorch_ood.api import Detector
from pytorch_ood.benchmark import Benchmark
from pytorch_ood.utils import GridSearch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from .declarations import Declarations
from .expect import attempt, check, expect, expect_raises
from .observe import pairwise_auroc

__all__ = ["TuningChecks"]


class TuningChecks(Declarations):
    """pytorch-ood's own tools take the detector."""

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

    def _set(self, detector: Any, **values: Any) -> None:
        setter = partial(detector.set_hyperparameters, **values)
        returned = attempt(f"set_hyperparameters({values})", setter)
        expect(returned is detector, "set_hyperparameters must return the detector itself")

    @check
    def test_08_unknown_hyperparameters_raise(self, detector: Any, loader: Any) -> None:
        """A misspelt name raises ``ValueError`` and sets nothing."""
        self._expect_refused(detector, {"no_such_name": 1}, ValueError)
        stays = "set_hyperparameters(no_such_name=1) must set nothing"
        expect(not hasattr(detector, "no_such_name"), stays)

    @check
    def test_08_bad_values_raise(self, detector: Any, loader: Any) -> None:
        """Values that make no sense raise ``ValueError`` or ``TypeError`` and set nothing."""
        for name in detector.hyperparameter_space:
            for value in self.bad_hyperparameters.get(name, [math.nan, "no such value"]):
                self._expect_refused(detector, {name: value}, ValueError, TypeError)

    def _expect_refused(
        self, detector: Any, values: dict[str, Any], *kinds: type[Exception]
    ) -> None:
        before = detector.get_hyperparameters()
        [(name, value)] = values.items()
        what = f"set_hyperparameters({name}={value!r})"
        expect_raises(what, partial(detector.set_hyperparameters, **values), *kinds)
        after = detector.get_hyperparameters()
        expect(after == before, f"{what} must leave {before}, got {after}")

    @check
    def test_08_grid_search_leaves_the_best(self, detector: Any, loader: Any) -> None:
        """``GridSearch`` leaves the detector fitted, with the best values and their score."""
        batches, (x, y) = self.batches(loader), self.samples(loader)
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

    @check
    def test_09_benchmark_alone(self, detector: Any, loader: Any) -> None:
        """The benchmark's AUROC is that of the detector's scores."""
        _, scores = self.fitted_scores(detector, loader)
        what = "Benchmark.evaluate(detector)"
        results = self._evaluated(detector, detector, loader, what)
        expect(len(results) == 1, f"A benchmark of one OOD set must give one result: {results}")
        self._expect_auroc(results[0], detector, loader, scores, what)

    @check
    def test_09_benchmark_in_a_list(self, detector: Any, loader: Any) -> None:
        """In a list, the benchmark's result is the same and names the detector by its class."""
        _, scores = self.fitted_scores(detector, loader)
        what = "Benchmark.evaluate([other, detector])"
        results = self._evaluated(detector, [_Brightness(scores), detector], loader, what)
        by_name = {result.get("Detector"): result for result in results}
        name = type(detector).__name__
        expect(name in by_name, f"{what} must give a result for {name}, got {list(by_name)}")
        self._expect_auroc(by_name[name], detector, loader, scores, what)

    def _evaluated(self, detector: Any, given: Any, loader: Any, what: str) -> Any:
        x, y = self.samples(loader)
        benchmark = _ToyBenchmark((x, y), (self.anomaly(x), torch.full_like(y, -1)))
        return attempt(what, lambda: benchmark.evaluate(given, loader_kwargs={"batch_size": 8}))

    def _expect_auroc(
        self, result: Any, detector: Any, loader: Any, scores: Tensor, what: str
    ) -> None:
        x, _ = self.samples(loader)
        auroc = pairwise_auroc(scores, self.scores(detector, self.anomaly(x)))
        expect(
            math.isclose(float(result["AUROC"]), auroc, abs_tol=1e-3),
            f"{what} must report the AUROC of the detector's scores, {auroc:.4f}, got "
            f"{float(result['AUROC']):.4f}",
        )


class _ToyBenchmark(Benchmark):  # type: ignore[misc]
    """A benchmark of one OOD set, from inputs and labels."""

    ood_names: ClassVar[list[str]] = ["anomalies"]

    def __init__(self, known: tuple[Tensor, Tensor], unknown: tuple[Tensor, Tensor]):
        self.known, self.unknown = TensorDataset(*known), TensorDataset(*unknown)

    def train_set(self) -> Dataset[tuple[Tensor, ...]]:
        return self.known

    def test_sets(
        self, known: bool = True, unknown: bool = True
    ) -> list[Dataset[tuple[Tensor, ...]]]:
        if not unknown:
            return [self.known]
        return [self.known + self.unknown if known else self.unknown]


class _Brightness(Detector):  # type: ignore[misc]
    """The simplest detector, company for another one: the mean of the input, once or per pixel."""

    def __init__(self, like: Tensor):
        self.shape = like.shape[1:]

    def predict(self, x: Tensor) -> Tensor:
        means = x.float().flatten(1).mean(dim=1)
        return means.view(-1, *[1] * len(self.shape)).expand(-1, *self.shape)
