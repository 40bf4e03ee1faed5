"""
Evidence for a residue that fills a part of the image: the fit, regions, and scores.
"""

import math

import torch
from torch import Tensor

from ...fitting.fitted import Statistics
from ...layer.linear.constant_windows import if_any
from ...layer.linear.effective_convolution import Geometry
from ..conclusion import in_own_order
from ..evidence import Settings, arsinh, hypotheses, log_odds, reader_of
from ..hypotheses import fisher_contrast, shrunk_whitening
from ..reader import Reading
from ..windows import Windows
from .confined import confined_residues
from .regions import Regions, region_features

__all__ = ["conclude_local", "local_score", "region_evidence"]

# what is read of a map of evidence: its quantiles
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
# share of covariances that is shrunk to their diagonal, where nothing else is asked for
_SHRINKAGE = 0.05


def conclude_local(
    statistics: Statistics, state: dict[str, Tensor], settings: Settings
) -> dict[str, Tensor]:
    """
    :param statistics: what was kept of the ID data
    :param state: fitted state of the detector that reads images as a whole
    :param settings: its settings
    :return: ``region_mean`` of the features of ID regions and ``region_contrast`` of ID regions
        and the same with residues; ``local_means`` of the quantiles of maps, ID first and then a
        confined residue of each strength, and their ``local_whitening``
    """
    geometry = Geometry.from_tensor(statistics["geometry"])
    shape = tuple(statistics["shape"].tolist())
    windows, reader = Windows.of(geometry, shape), reader_of(state)
    generator = torch.Generator().manual_seed(settings.seed)
    regions, groups = None, []
    maps = in_own_order(statistics["sample"])
    parts = confined_residues(reader, geometry, windows, maps, state["scale"], generator)
    for clean, whole, confined in parts:
        if regions is None:
            regions = Regions.of(windows, shape, clean)
        strengths = [(0.0, whole), *[(e, r) for r in (whole, confined) for e in settings.eps]]
        groups.append([region_features(clean + e * r, regions) for e, r in strengths])
    maps_of = [torch.cat(group) for group in zip(*groups, strict=True)]
    levels = len(settings.eps)
    share = _SHRINKAGE if settings.shrinkage is None else settings.shrinkage
    rows = [features.movedim(1, -1).flatten(0, -2) for features in maps_of[: levels + 1]]
    known = {
        "region_mean": rows[0].mean(dim=0),
        "region_contrast": fisher_contrast(rows[0], torch.cat(rows[1:]), share),
    }
    judged = [
        _summary(_evidence(maps_of[i], known)) for i in (0, *range(levels + 1, len(maps_of)))
    ]
    means = [group.mean(dim=0) for group in judged]
    centred = torch.cat([group - mean for group, mean in zip(judged, means, strict=True)])
    return known | {
        "local_means": torch.stack(means),
        "local_whitening": shrunk_whitening(centred, share),
    }


def region_evidence(reading: Reading, state: dict[str, Tensor]) -> Tensor:
    """
    :param reading: what was read at the layer
    :param state: fitted state
    :return: Fisher's contrast of each region with ID regions, :math:`B \\times *H'`
    """
    around = reading.around()
    regions = Regions.of(reading.windows, reading.shape, around)
    flat = if_any(reading.flat)
    evidence = _evidence(region_features(around, regions, flat), state)
    if flat is None:
        return evidence
    # a region of constant windows alone is as ID regions are on average
    return evidence * (regions.mean((~flat[:, None]).double())[:, 0] > 0)


def _evidence(features: Tensor, state: dict[str, Tensor]) -> Tensor:
    centred = features.movedim(1, -1) - state["region_mean"]
    return centred @ state["region_contrast"]


def _summary(evidence: Tensor) -> Tensor:
    """Quantiles over space, :math:`B \\times 7`."""
    ordered = evidence.flatten(1).sort(dim=1).values
    last = ordered.shape[1] - 1
    return torch.stack([ordered[:, round(q * last)] for q in _QUANTILES], dim=1)


def local_score(reading: Reading, state: dict[str, Tensor], settings: Settings) -> Tensor:
    """
    :param reading: what was read at the layer
    :param state: fitted state
    :param settings: the detector's settings
    :return: the larger of the log-odds of a residue everywhere and of a confined one, on the
        scale of :func:`~pytorch_ood_viyog.residue.evidence.score`, shape :math:`B`
    """
    everywhere = log_odds(hypotheses(reading.features, state, settings))
    summary = _summary(region_evidence(reading, state))
    deviations = (summary[:, None] - state["local_means"]) @ state["local_whitening"].T
    logs = -0.5 * deviations.square().sum(dim=2)
    confined = logs[:, 1:].logsumexp(dim=1) - math.log(logs.shape[1] - 1) - logs[:, 0]
    odds = torch.maximum(everywhere, confined)
    return (arsinh(odds) - state["centre"]) * (1 / state["spread"])
