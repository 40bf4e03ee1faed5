"""
Fits the detectors of a pipeline: all together to one pass, then those that run by themselves.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pytorch_ood.api import Detector

from ..detectors.base import FirstLayerDetector
from ..layer.batches import batches, id_mask
from ..layer.manners import same_random_state
from .feeding import naming, trial_copy
from .id_samples import IdSamples
from .panel import Panel
from .shared_pass import SharedPass

__all__ = ["SharedFit"]


class SharedFit:
    """A fit of several detectors, of which all succeed or none changes."""

    def __init__(self, panel: Panel, shared: SharedPass):
        """
        :param panel: the detectors of the pipeline
        :param shared: the pass that feeds them
        """
        self._panel = panel
        self._pass = shared

    def fit(
        self, chosen: Mapping[str, Detector], data_loader: Iterable[Any], progress: bool
    ) -> None:
        """
        :param chosen: detectors of the panel, by name; those that require no fit are left out
        :param data_loader: ID data, as for
            :meth:`~pytorch_ood_viyog.pipeline.shared_forward.SharedForward.fit`
        :param progress: show a progress bar where the pass takes more than a second
        :raises ValueError: if there are no ID samples, no labels, or NaN or inf in the data
        :raises RuntimeError: if a detector's own fit fails
        """
        panel = self._panel
        fitted = self._to_fit(chosen)
        trials = {name: trial_copy(detector) for name, detector in fitted.items()}
        with same_random_state(panel.model):
            samples = self._gather(data_loader, trials, progress)
        collected = samples.representations()
        for name, trial in trials.items():
            if name in panel.first_layer:
                trial._fit_to(samples.statistics[name], progress)
                continue
            with naming(name, trial, "could not be fitted"):
                panel.fed[name].fit(trial, collected, self._pass.device)
        before = {name: dict(vars(detector)) for name, detector in fitted.items()}
        for name, trial in trials.items():
            vars(fitted[name]).update(vars(trial))
        try:  # these may read what was just fitted
            for name in (*panel.separate, *panel.looks):
                if name in chosen and panel.detectors[name].requires_fit:
                    panel.fit_separately(name, data_loader)
        except Exception:
            for name, state in before.items():
                vars(fitted[name]).update(state)
            raise

    def _to_fit(self, chosen: Mapping[str, Detector]) -> dict[str, Detector]:
        """What is fitted in the shared pass: once, if several detectors read the same fit."""
        found: dict[str, Detector] = {}
        for name, detector in chosen.items():
            alone = name in self._panel.separate or name in self._panel.looks
            if detector.requires_fit and not alone:
                own = detector.fits if isinstance(detector, FirstLayerDetector) else detector
                if not any(own is other for other in found.values()):
                    found[name] = own
        return found

    def _gather(
        self, data_loader: Iterable[Any], trials: Mapping[str, Any], progress: bool
    ) -> IdSamples:
        panel = self._panel
        fed = [name for name in trials if name in panel.fed]
        wanted = panel.wanted(fed)
        samples = IdSamples(wanted, {n: d for n, d in trials.items() if n in panel.first_layer})
        if not trials:
            return samples
        for x, y in batches(data_loader, "fit", progress):
            known = id_mask(y, x)
            x, y = (x, y) if known is None else (x[known], torch.as_tensor(y)[known.cpu()])
            if x.shape[0] == 0:
                continue
            x = self._pass.to_device(x)
            seen = self._pass.run(x, wanted, samples.reader(x))
            panel.check_own(fed, self._pass, x, seen)
            samples.add(seen, y)
        return samples
