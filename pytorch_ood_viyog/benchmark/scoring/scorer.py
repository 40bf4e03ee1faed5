"""
Scores of many detectors for many images: shared forward passes, and a failure stays with its
detector.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from pytorch_ood.api import Detector, GradientDetector
from torch import Tensor
from torch.nn import Module
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ...evaluation.rows import Scores
from ...layer.manners import as_found_with_gradients, device_of, unwrap, warn_user
from ...looks.logits import PickLogits
from ...pipeline.shared_forward import SharedForward
from ..attacks.guard import ModelState
from .store import ScoreStore

__all__ = ["Scorer"]

T = TypeVar("T")

_TIMED_RUNS = 3


class Scorer:
    """
    Fits, times and applies detectors of one model, in evaluation mode and with one seed.
    Exceptions are kept, with a warning, and the detector that raised one is left out from then on,
    for the images at hand or, if it could not be fitted, for all.
    """

    def __init__(
        self,
        model: Module,
        detectors: Mapping[str, Detector],
        *,
        seed: int,
        progress: bool,
        logits: PickLogits | None = None,
    ):
        """
        :param model: the model that the detectors judge
        :param detectors: detectors by name
        :param seed: seed of each fit
        :param progress: show progress bars
        :param logits: picks the logits out of the model's output
        """
        self.model = model
        self.detectors = dict(detectors)
        self.seed = seed
        self.progress = progress
        self.logits = logits
        #: detector -> name of the images -> scores of shape (N,), or the error as text
        self.scores: Scores = {name: {} for name in detectors}
        #: detector -> seconds to fit, those of the common fit where it shared one
        self.fit_seconds: dict[str, float] = {}
        #: detector -> seconds per image when it runs by itself
        self.seconds_per_image: dict[str, float] = {}
        #: detector -> why it could not be fitted
        self.unfit: dict[str, str] = {}
        self.device = device_of(model)
        for detector in self.detectors.values():
            detector.to(self.device)
        self._state = ModelState(unwrap(model))
        self._shareable = [n for n, d in self.detectors.items() if self._one_pass({n: d})]
        self._panel: SharedForward | None = None

    def fit(self, loader: Iterable[Any]) -> None:
        """
        :param loader: yields images and labels of ID samples
        """
        together = self._fit_together(loader)
        alone = [(n, detector) for n, detector in self.detectors.items() if n not in together]
        for name, detector in self._bar(alone, "fit"):
            start = time.perf_counter()
            outcome = self._outcome(f"fitting {name}", partial(detector.fit, loader))
            self._give_back(f"The fit of {name}")
            self.fit_seconds[name] = time.perf_counter() - start
            if isinstance(outcome, str):
                self.unfit[name] = outcome

    def _fit_together(self, loader: Iterable[Any]) -> set[str]:
        """What shares a forward pass; none if one of them fails, then all are fitted alone."""
        shared = self._shared(self.detectors)
        if shared is None:
            return set()
        start = time.perf_counter()
        fit = partial(shared.fit, loader, progress=self.progress)
        if isinstance(self._outcome(None, fit), str):
            return set()
        self.fit_seconds |= dict.fromkeys(shared.detectors, time.perf_counter() - start)
        return set(shared.detectors)

    def time(self, x: Tensor) -> None:
        """
        Measure the cost of each detector by itself: the fastest of three runs after a first one.

        :param x: images
        """
        x = x.to(self.device)
        for name, detector in self._bar(self._fitted(), "time"):
            runs = []
            for _ in range(_TIMED_RUNS + 1):
                start = time.perf_counter()
                outcome = self._outcome(None, partial(_predicted, detector, x))
                runs.append(time.perf_counter() - start)
                if isinstance(outcome, str):
                    break
            else:
                self.seconds_per_image[name] = min(runs[1:]) / len(x)

    def score(
        self,
        name: str,
        images: Callable[[], Dataset[Any]],
        options: Mapping[str, Any],
        stores: Callable[[Any], ScoreStore] | None = None,
    ) -> None:
        """
        Score images with all detectors, in order and whole. Images that cannot be read are the
        failure of all detectors.

        :param name: name of the images
        :param images: gives images and labels; of an empty data set there are no scores
        :param options: keyword arguments of the loader, a batch size among them
        :param stores: gives for a data set where scores are kept as they come; what is known
            there is not asked again
        """
        parts: dict[str, list[Tensor]] = {detector: [] for detector, _ in self._fitted()}
        failed: dict[str, str] = dict(self.unfit)
        try:
            data = images()
            if len(data) == 0:  # type: ignore[arg-type]
                return
            store = stores(data) if stores else None
            for number, (x, _) in enumerate(self._bar(DataLoader(data, **options), name)):
                found: dict[str, Tensor | str] = dict(store.read(number)) if store else {}
                asked = {n: d for n, d in self._fitted() if n not in failed and n not in found}
                new = self._score_batch(asked, x.to(self.device), name)
                if store:
                    store.write(number, {n: s for n, s in new.items() if isinstance(s, Tensor)})
                for detector, outcome in (found | new).items():
                    if isinstance(outcome, str):
                        failed[detector] = outcome
                    elif detector not in failed:
                        parts[detector].append(outcome)
        except Exception as error:
            message = f"images of {name}: {type(error).__name__}: {error}"
            warn_user(f"Failure while reading {message}")
            failed |= dict.fromkeys(parts, message)
        self._give_back(f"A detector, while scoring {name},")
        for detector in self.detectors:
            done = failed.get(detector) or torch.cat(parts[detector])
            self.scores[detector][name] = done

    def costs(self) -> dict[str, dict[str, float]]:
        """
        :return: detector -> ``SecondsPerImage`` and ``FitSeconds``, NaN where not measured
        """
        return {
            name: {
                "SecondsPerImage": self.seconds_per_image.get(name, math.nan),
                "FitSeconds": self.fit_seconds.get(name, math.nan),
            }
            for name in self.detectors
        }

    def _score_batch(
        self, detectors: dict[str, Detector], x: Tensor, images: str
    ) -> dict[str, Tensor | str]:
        """The seam to shared forward passes: what shares one is asked first, the rest alone."""
        shared = self._shared(detectors)
        outcome: dict[str, Tensor | str] = {}
        if shared is not None:
            together = self._outcome(None, partial(shared.predict, x))
            # a failure in the shared pass does not tell whose it is: all are then run alone
            if not isinstance(together, str):
                outcome |= {name: scores.cpu() for name, scores in together.items()}
        for name, detector in detectors.items():
            if name not in outcome:
                what = f"scoring {images} with {name}"
                outcome[name] = self._outcome(what, partial(_predicted, detector, x))
        for name, scores in outcome.items():
            if isinstance(scores, Tensor) and bool(scores.isnan().any()):
                outcome[name] = (
                    f"ValueError: {int(scores.isnan().sum())} scores of {images} are NaN"
                )
        return outcome

    def _shared(self, detectors: Mapping[str, Detector]) -> SharedForward | None:
        """What feeds from one forward pass; the same object for the same detectors."""
        names = tuple(name for name in detectors if name in self._shareable)
        if self._panel is None or tuple(self._panel.detectors) != names:
            self._panel = self._one_pass({name: detectors[name] for name in names})
        return self._panel

    def _one_pass(self, detectors: dict[str, Detector]) -> SharedForward | None:
        try:
            shared = SharedForward(self.model, detectors, logits=self.logits)
            return shared if detectors else None
        except (TypeError, ValueError):  # they cannot share: different first layers, for example
            return None

    def _fitted(self) -> list[tuple[str, Detector]]:
        return [(n, detector) for n, detector in self.detectors.items() if n not in self.unfit]

    def _bar(self, items: Iterable[T], description: str) -> Iterable[T]:
        bar: Iterable[T] = tqdm(items, desc=description, leave=False, disable=not self.progress)
        return bar

    def _outcome(self, what: str | None, work: Callable[[], T]) -> T | str:
        """What work returns, or its exception as text, warned of if it is told what is done."""
        try:
            with as_found_with_gradients(self._state.model):
                torch.manual_seed(self.seed)
                return work()
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            if what is not None:
                warn_user(f"Failure while {what}: {message}")
            return message
        finally:
            self._state.give_back_modes()

    def _give_back(self, who: str) -> None:
        if self._state.give_back_values():
            warn_user(
                f"{who} changed weights or buffers of the model, which were put back.",
            )


def _predicted(detector: Detector, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(isinstance(detector, GradientDetector)):
        scores: Tensor = detector.predict(x)
    if not isinstance(scores, Tensor) or scores.shape != x.shape[:1]:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"scores must be a tensor of shape ({len(x)},), got {got}")
    return scores.detach().cpu()
