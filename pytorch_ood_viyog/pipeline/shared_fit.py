"""
Fits the detectors of a pipeline: all together to one pass, then those that run by themselves.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pytorch_ood.api import Detector
from torch import Tensor

from ..fitting.fitted import MapsState, Statistics
from ..layer.batches import batches, id_mask
from ..layer.checks import check_finite
from ..layer.finding import find_layer
from ..layer.layer_call import LayerCall
from ..layer.manners import same_random_state, unwrap
from .feeding import Panel, naming, remembered
from .shared_pass import SharedPass

__all__ = ["fit_together", "give_layer"]


def fit_together(
    panel: Panel,
    shared: SharedPass,
    chosen: Mapping[str, Detector],
    data_loader: Iterable[Any],
    progress: bool,
) -> None:
    """
    A fit of several detectors, of which all succeed or none changes. See
    :meth:`~pytorch_ood_viyog.pipeline.shared_forward.SharedForward.fit`.

    :param panel: the detectors of the pipeline
    :param shared: the pass that feeds them
    :param chosen: those to fit, by name; what requires no fit is left out
    :param data_loader: ID data
    :param progress: show a progress bar where the pass takes more than a second
    """
    need = {name: detector for name, detector in chosen.items() if detector.requires_fit}
    alone = [name for name in (*panel.separate, *panel.looks) if name in need]
    together: dict[str, Any] = {}
    for name, detector in need.items():
        own = detector.fits if name in panel.first_layer else detector
        if name not in alone and not any(own is other for other in together.values()):
            together[name] = own  # several may read one fit
    restore = [remembered(detector, inside=True) for detector in together.values()]
    restore += [remembered(need[name], inside=False) for name in alone]
    try:
        if together:
            with same_random_state(panel.model):
                statistics, collected = _gather(panel, shared, together, data_loader, progress)
        for name, detector in together.items():
            if name in panel.first_layer:
                detector._fit_to(statistics[name], progress)
                continue
            with naming(name, detector, "could not be fitted"):
                panel.fed[name].fit(detector, collected, shared.device)
        for name in alone:  # these may read what was just fitted
            panel.fit_alone(name, data_loader)
    except BaseException:
        for each in restore:
            each()
        raise


def _gather(
    panel: Panel,
    shared: SharedPass,
    detectors: Mapping[str, Any],
    data_loader: Iterable[Any],
    progress: bool,
) -> tuple[dict[str, Statistics | None], dict[str, Tensor]]:
    """
    Statistics of first-layer maps, which are consumed batch by batch, and representations and
    ``"labels"`` of all ID samples, collected in CPU memory.
    """
    fed = [name for name in detectors if name in panel.fed]
    statistics: dict[str, Statistics | None] = {n: None for n in detectors if n not in fed}
    parts: dict[str, list[Tensor]] = {name: [] for name in sorted(panel.wanted(fed))}
    wanted: list[str] = [*parts]
    labels: list[Tensor] = []

    def read(call: LayerCall) -> None:
        for name, before in statistics.items():
            detector = detectors[name]
            give_layer(detector, call)
            statistics[name] = detector._add(before, detector._measure_call(x, call))

    for x, y in batches(data_loader, "fit", progress):
        known = id_mask(y, x)
        x, y = (x, y) if known is None else (x[known], torch.as_tensor(y)[known.cpu()])
        if x.shape[0] == 0:
            continue
        x = x.to(shared.device)
        seen = shared.run(x, wanted, read if statistics else None)
        panel.check_own(fed, x, seen)
        if wanted and y is None:
            raise ValueError(
                "data_loader must yield (x, y) to fit detectors of logits, features or feature "
                "maps, got no labels."
            )
        for name in wanted:
            values = getattr(seen, name)
            check_finite(name.capitalize().replace("_", " "), values)
            parts[name].append(values.cpu())
        if wanted:
            labels.append(torch.as_tensor(y).cpu())
    if wanted and not labels:
        raise ValueError("data_loader holds no ID samples: it is empty, or all labels are < 0.")
    collected = {name: torch.cat(values) for name, values in parts.items()}
    return statistics, collected | ({"labels": torch.cat(labels)} if wanted else {})


def give_layer(detector: MapsState, call: LayerCall) -> None:
    """Tell a first-layer detector which layer it is fed from; some need its weights."""
    known = detector._first_layer
    if known is not None and known.name is None:
        known.name = find_layer(unwrap(known.model), call.layer)
    elif known is None and detector.layer is None:
        detector.layer = call.layer
