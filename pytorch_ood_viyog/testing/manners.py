"""
Checks 6 and 10: the user's model is a guest's coat, also when many threads use it many times.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from .declarations import Declarations
from .expect import attempt, check, expect
from .observe import InterruptError, changes, hooks_of, interrupted, live_objects, state_of

__all__ = ["MannerChecks"]

_THREADS = 4
_REPEATS = 6
_ROUNDS = 100


class MannerChecks(Declarations):
    """Modes, hooks, weights, buffers, gradients, devices and RNG state stay; nothing is left."""

    @check
    def test_06_no_hooks_stay_on_the_model(self, detector: Any, loader: Any) -> None:
        """Neither the constructor nor fitting nor predicting leaves a hook on the model."""
        self._expect_no_hooks(detector, "its construction")
        self.fitted_scores(detector, loader)
        self._expect_no_hooks(detector, "fit and predict")

    def _expect_no_hooks(self, detector: Any, when: str) -> None:
        hooks = hooks_of(self.models(detector))
        expect(
            not hooks,
            f"The user's model must carry no hooks after {when} (they run on every forward pass "
            f"and break pickling); found: {hooks[:5]}",
        )

    @check
    def test_06_model_is_untouched_in_evaluation_mode(self, detector: Any, loader: Any) -> None:
        """With the model in evaluation mode, nothing of it changes."""
        for model in self.models(detector):
            model.eval()
        self._expect_untouched(detector, loader, "in evaluation mode")

    @check
    def test_06_model_is_untouched_in_training_mode(self, detector: Any, loader: Any) -> None:
        """With the model in training mode but for one module, nothing of it changes."""
        for model in self.models(detector):
            model.train()
            frozen = list(model.modules())[-1]
            frozen.training = False
            for parameter in frozen.parameters():
                parameter.requires_grad_(False)
        but = ("buffers", "random_state") if self.runs_model_as_is else ()
        self._expect_untouched(detector, loader, "in training mode", but)

    def _expect_untouched(
        self, detector: Any, loader: Any, mode: str, but: tuple[str, ...] = ()
    ) -> None:
        x, _ = self.samples(loader)
        models = self.models(detector)
        before = state_of(models)
        for what, action in (
            ("fit", lambda: detector.fit(self.batches(loader))),
            ("predict", lambda: detector.predict(x)),
        ):
            attempt(what, action)
            found = changes(before, state_of(models), but)
            expect(not found, f"{what} must not change the model {mode}: {'; '.join(found)}")

    @check
    def test_06_model_is_untouched_when_it_raises(self, detector: Any, loader: Any) -> None:
        """When a layer of the model raises, the exception gets out and nothing has changed."""
        batches = self.batches(loader)
        self.fit(detector, batches)
        models = self.models(detector)
        uses: dict[str, Callable[[], Any]] = {
            "predict": lambda: detector.predict(batches[0][0]),
            "fit": lambda: detector.fit(batches),
        }
        raised = False
        for layer in [m for model in models for m in model.modules() if not list(m.children())]:
            for model in models:
                model.train(not self.runs_model_as_is)
            for what, action in uses.items():
                with interrupted(layer):
                    before = state_of(models)
                    try:
                        action()
                    except InterruptError:
                        raised, found = True, changes(before, state_of(models))
                        expect(
                            not found,
                            f"{what} must leave the user's model as it was when a "
                            f"{type(layer).__name__} of it raises; changed: {'; '.join(found)}",
                        )
        expect(
            raised,
            "An exception of the model must get out of predict, but none did. If the model is not "
            "among the detector's attributes, declare models(detector).",
        )

    @check
    def test_10_threads_get_the_scores_of_one(self, detector: Any, loader: Any) -> None:
        """Threads that share detector and model get the scores that one thread gets."""
        x, _ = self.fitted_scores(detector, loader)
        for model in self.models(detector):
            model.eval()
        wanted, plain = self.scores(detector, x), self._forward(detector)
        outputs = plain(x)
        problems: list[str] = []
        start = threading.Barrier(2 * _THREADS)

        def predict(part: Tensor) -> None:
            self.same(detector.predict(x[part]), wanted[part], "Threads that share a detector")

        def forward(part: Tensor) -> None:
            self.same(plain(x)[part], outputs[part], "Threads that run the plain model meanwhile")

        def work(action: Callable[[Tensor], None], part: Tensor) -> None:
            try:
                start.wait(timeout=60)
                for _ in range(_REPEATS):
                    action(part)
            except Exception as error:
                problems.append(f"{type(error).__name__}: {error}")

        parts = torch.arange(len(x)).tensor_split(_THREADS)
        jobs = [(action, part) for part in parts for action in (predict, forward)]
        threads = [threading.Thread(target=work, args=job) for job in jobs]
        with _frequent_switches():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=60)
        blocked = any(thread.is_alive() for thread in threads)
        expect(not blocked, "Threads that share a detector must not block each other")
        expect(
            not problems,
            f"Threads that share a detector and a model must get the scores of a single thread; "
            f"{len(problems)} of {len(threads)} threads failed: {'; '.join(problems[:3])}",
        )

    @check
    def test_10_many_calls_leave_nothing_behind(self, detector: Any, loader: Any) -> None:
        """A hundred rounds of predict, forward pass and exception leave no hook and no memory."""
        x, wanted = self.fitted_scores(detector, loader)
        models, plain = self.models(detector), self._forward(detector)
        rounds = "rounds of predict, forward pass and exception"

        def rounds_of(count: int) -> int:
            for _ in range(count):
                detector.predict(x[:2])
                plain(x[:2])
                for model in models:
                    first = next(m for m in model.modules() if not list(m.children()))
                    with interrupted(first), suppress(InterruptError):
                        detector.predict(x[:2])
            return live_objects()

        hooks = hooks_of(models)
        before = rounds_of(_ROUNDS // 10)
        grown = rounds_of(_ROUNDS) - before
        new = len(hooks_of(models)) - len(hooks)
        expect(
            hooks_of(models) == hooks,
            f"No hook must stay on the model; {new} are new after {rounds}",
        )
        expect(
            grown < _ROUNDS,
            f"No memory must stay behind, but {grown} objects are new after {_ROUNDS} {rounds}",
        )
        self.same(self.scores(detector, x), wanted, "Scores must be the same after many calls")

    def _forward(self, detector: Any) -> Callable[[Tensor], Tensor]:
        """The plain forward pass of the model, or of its first part that takes the inputs."""
        models = self.models(detector)
        found = "The detector holds no model that can be found; declare models(detector)."
        expect(models, found)
        run: Callable[[Tensor], Tensor] = torch.no_grad()(models[0].__call__)
        return run


@contextmanager
def _frequent_switches() -> Iterator[None]:
    """Threads take turns after each few instructions, so that a race shows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
