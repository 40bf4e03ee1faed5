"""
Check 10: many threads, many calls.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .declarations import Declarations
from .expect import check, expect, fail
from .observe import InterruptError, hooks_of, interrupted, live_objects

__all__ = ["LoadChecks"]

_THREADS = 4
_REPEATS = 6
_ROUNDS = 100


class LoadChecks(Declarations):
    """Check 10: a detector can be shared by threads, and leaves nothing behind."""

    @check
    def test_10_threads_get_the_scores_of_one(self, detector: Any, loader: Any) -> None:
        """Threads that share detector and model get the scores that one thread gets."""
        x, wanted = self.fitted_scores(detector, loader)
        for model in self.models(detector):
            model.eval()
        wanted = self.scores(detector, x)
        plain = self._forward(detector)
        outputs = plain(x)
        parts = torch.arange(len(x)).tensor_split(_THREADS)
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
        hooks = hooks_of(models)
        for _ in range(_ROUNDS // 10):
            self._round(detector, models, plain, x)
        before = live_objects()
        for _ in range(_ROUNDS):
            self._round(detector, models, plain, x)
        grown = live_objects() - before
        expect(
            hooks_of(models) == hooks,
            f"No hook must stay on the model; {len(hooks_of(models)) - len(hooks)} are new after "
            f"rounds of predict, forward pass and exception",
        )
        expect(
            grown < _ROUNDS,
            f"No memory must stay behind, but {grown} objects are new after {_ROUNDS} rounds of "
            f"predict, forward pass and exception",
        )
        self.same(self.scores(detector, x), wanted, "Scores must be the same after many calls")

    def _round(
        self, detector: Any, models: list[Module], plain: Callable[[Tensor], Tensor], x: Tensor
    ) -> None:
        detector.predict(x[:2])
        plain(x[:2])
        for model in models:
            first = next((m for m in model.modules() if not list(m.children())), model)
            with interrupted(first), suppress(InterruptError):
                detector.predict(x[:2])

    def _forward(self, detector: Any) -> Callable[[Tensor], Tensor]:
        """The plain forward pass of the model, or of its first part that takes the inputs."""
        models = self.models(detector)
        if not models:
            fail("The detector holds no model that can be found; declare models(detector).")

        def forward(x: Tensor) -> Tensor:
            with torch.no_grad():
                output: Tensor = models[0](x)
            return output

        return forward


@contextmanager
def _frequent_switches() -> Iterator[None]:
    """Threads take turns after each few instructions, so that a race shows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
