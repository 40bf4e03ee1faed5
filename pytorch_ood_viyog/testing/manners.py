"""
Check 6: the user's model is a guest's coat.
"""

from collections.abc import Callable
from typing import Any

from torch.nn import Module

from .data import Batches, all_samples
from .declarations import Declarations
from .expect import attempt, check, expect
from .observe import InterruptError, Snapshot, hooks_of, interrupted

__all__ = ["MannerChecks"]


class MannerChecks(Declarations):
    """Check 6: modes, hooks, weights, buffers, gradients, devices and RNG state stay."""

    @check
    def test_06_no_hooks_stay_on_the_model(self, detector: Any, loader: Any) -> None:
        """Neither the constructor nor fitting nor predicting leaves a hook on the model."""
        self._expect_no_hooks(detector, "its construction")
        self.fitted_scores(detector, loader)
        self._expect_no_hooks(detector, "fit and predict")

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

    @check
    def test_06_model_is_untouched_when_it_raises(self, detector: Any, loader: Any) -> None:
        """When a layer of the model raises, the exception gets out and nothing has changed."""
        batches = self.batches(loader)
        self.fit(detector, batches)
        layers = self._leaves(detector)
        interrupted = sum(self._interrupt(detector, layer, batches) for layer in layers)
        expect(
            interrupted,
            "An exception of the model must get out of predict, but none did. If the model is not "
            "among the detector's attributes, declare models(detector).",
        )

    def _interrupt(self, detector: Any, layer: Module, batches: Batches) -> bool:
        """Whether ``predict`` runs the layer; checks that all stays when the layer raises."""
        models = self.models(detector)
        for model in models:
            model.train(not self.runs_model_as_is)
        raised = [
            self._raises(action, what, layer, models)
            for what, action in (
                ("predict", lambda: detector.predict(batches.batches[0][0])),
                ("fit", lambda: detector.fit(batches)),
            )
        ]
        return any(raised)

    def _raises(
        self, action: Callable[[], Any], what: str, layer: Module, models: list[Module]
    ) -> bool:
        with interrupted(layer):
            before = Snapshot.of(models)
            try:
                action()
            except InterruptError:
                changes = before.changes(Snapshot.of(models))
                expect(
                    not changes,
                    f"{what} must leave the user's model as it was when a {type(layer).__name__} "
                    f"of it raises; changed: {'; '.join(changes)}",
                )
                return True
        return False

    def _leaves(self, detector: Any) -> list[Module]:
        every: list[Module] = [m for model in self.models(detector) for m in model.modules()]
        return [module for module in every if not list(module.children())]

    def _expect_untouched(
        self, detector: Any, loader: Any, mode: str, but: tuple[str, ...] = ()
    ) -> None:
        batches = self.batches(loader)
        x, _ = all_samples(batches)
        models = self.models(detector)
        before = Snapshot.of(models)
        attempt("fit(loader)", lambda: detector.fit(batches))
        changes = before.changes(Snapshot.of(models), but)
        expect(not changes, f"fit must not change the model {mode}: {'; '.join(changes)}")
        attempt("predict(x)", lambda: detector.predict(x))
        changes = before.changes(Snapshot.of(models), but)
        expect(not changes, f"predict must not change the model {mode}: {'; '.join(changes)}")

    def _expect_no_hooks(self, detector: Any, when: str) -> None:
        hooks = hooks_of(self.models(detector))
        expect(
            not hooks,
            f"The user's model must carry no hooks after {when} (they run on every forward pass "
            f"and break pickling); found: {hooks[:5]}",
        )
