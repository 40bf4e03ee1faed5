"""
Fits the detectors of a pipeline: all together to one pass, then those that run by themselves.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from pytorch_ood.api import Detector
from torch import Tensor

from ..detectors.base import FirstLayerDetector
from ..fitting.fitted import Statistics
from ..layer.batches import batches, id_mask
from ..layer.checks import check_finite
from ..layer.layer_call import LayerCall
from ..layer.manners import same_random_state
from .feeding import give_layer, naming, trial_copy
from .panel import Panel
from .shared_pass import ReadFirstLayer, Representations, SharedPass

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
    ) -> "_IdSamples":
        panel = self._panel
        fed = [name for name in trials if name in panel.fed]
        wanted = panel.wanted(fed)
        samples = _IdSamples(wanted, {n: d for n, d in trials.items() if n in panel.first_layer})
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


class _IdSamples:
    """
    Representations of ID samples, collected in CPU memory, and the statistics of first-layer
    maps, which are consumed batch by batch.
    """

    def __init__(self, wanted: Collection[str], first_layer: Mapping[str, FirstLayerDetector]):
        """
        :param wanted: names of fields of :class:`Representations` to collect
        :param first_layer: first-layer detectors by name
        """
        self._first_layer = first_layer
        self._parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
        self._labels: list[Tensor] = []
        #: statistics of the maps by name of the detector; ``None`` before the first batch
        self.statistics: dict[str, Statistics | None] = dict.fromkeys(first_layer)

    def reader(self, x: Tensor) -> ReadFirstLayer | None:
        """
        :param x: the batch that is about to pass
        :return: adds its maps to the statistics; ``None`` if there are no first-layer detectors
        """

        def read(call: LayerCall) -> None:
            for name, detector in self._first_layer.items():
                give_layer(detector, call)
                batch = detector._measure_call(x, call)
                self.statistics[name] = detector._add(self.statistics[name], batch)

        return read if self._first_layer else None

    def add(self, seen: Representations, y: Any) -> None:
        """
        :param seen: what the pass gave for the batch
        :param y: its labels, shape :math:`B`
        :raises ValueError: if there are no labels, or the representations are not finite
        """
        if not self._parts:
            return
        if y is None:
            raise ValueError(
                "data_loader must yield (x, y) to fit detectors of logits, features or feature "
                "maps, got no labels."
            )
        for name, parts in self._parts.items():
            values = getattr(seen, name)
            check_finite(name.capitalize().replace("_", " "), values)
            parts.append(values.cpu())
        self._labels.append(torch.as_tensor(y).cpu())

    def representations(self) -> dict[str, Tensor]:
        """
        :return: name -> values of all samples, and ``"labels"``
        :raises ValueError: if there are no samples
        """
        if not self._parts:
            return {}
        if not self._labels:
            raise ValueError(
                "data_loader holds no ID samples: it is empty, or all labels are < 0."
            )
        collected = {name: torch.cat(parts) for name, parts in self._parts.items()}
        return collected | {"labels": torch.cat(self._labels)}
