"""
The fit of ViyogResidue: from a sample of ID maps to directions, hypotheses and their scale.
"""

import torch
from torch import Tensor

from ..fitting.fitted import Statistics
from ..layer.linear.effective_convolution import Geometry
from .directions import fit_reader
from .evidence import Settings, evidence, hypotheses
from .hypotheses import fisher_contrast, shrunk_whitening
from .random_residues import random_residue
from .reader import Reader
from .statistics import convolution_of, dynamic_range
from .windows import Windows

__all__ = ["FEWEST", "conclude", "in_own_order"]

#: images below which nothing is held out that could be judged
FEWEST = 4

# strengths beyond the budget, in multiples of the largest eps: what looks like these is OOD
_BEYOND = (4, 8, 16)
# samples at once
_CHUNK = 8
# blur of smooth residues, in positions of the layer's input
_SMOOTH = 1.5
# parts of the ID sample that are judged by hypotheses fitted to the other parts
_PARTS = 8
# share of the residues of a strength that score below its entry in `least`
_BELOW_LEAST = 0.01


def conclude(statistics: Statistics, settings: Settings) -> dict[str, Tensor]:
    """
    :param statistics: what was kept of the ID data
    :param settings: the detector's settings
    :return: fitted state: the :class:`Reader`'s directions and kernels, ``geometry`` of the layer,
        ``scale`` (dynamic range of the input), ``means`` and ``whitening`` of the hypotheses,
        ``centre`` and ``spread`` of the evidence on ID, ``least`` scores of ID with the residue of
        each strength, and the ``contrast`` of ID and ADV, also with ``smooth`` residues
    """
    conv = convolution_of(statistics)
    windows = Windows.of(conv.geometry, tuple(statistics["shape"].tolist()))
    scale = dynamic_range(conv, statistics, settings.input_range)
    _check_enough(len(statistics["sample"]))
    sample = in_own_order(statistics["sample"])
    reader = fit_reader(conv, sample, windows, scale, settings.directions)
    *groups, smooth = _feature_groups(conv.geometry, sample, reader, windows, scale, settings)
    known = {"scale": scale, "geometry": statistics["geometry"]}
    state = vars(reader) | known | _fit_hypotheses(groups, settings)
    evidence, *with_residues = _held_out_evidence(groups, settings)
    centre, spread = evidence.mean(), evidence.std(correction=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    least = [((e - centre) / spread).quantile(_BELOW_LEAST) for e in with_residues]
    residues = torch.cat(groups[1 : len(settings.eps) + 1])
    shrinkage = _shrinkage(groups, settings)
    return state | {
        "centre": centre,
        "spread": spread,
        "least": torch.stack(least),
        "contrast": fisher_contrast(groups[0], residues, shrinkage),
        "smooth_contrast": fisher_contrast(groups[0], smooth, shrinkage),
    }


def _check_enough(samples: int) -> None:
    if samples < FEWEST:
        raise ValueError(
            f"ViyogResidue needs at least {FEWEST} ID images to tell what is usual among them, "
            f"got {samples}. Fit it to more; 64 and more are better."
        )


def in_own_order(maps: Tensor) -> Tensor:
    """
    :param maps: packed maps of samples
    :return: ordered by energy, so that the order they were drawn in does not deal out the signs
        of residues
    """
    energies = [m.double().flatten(1).square().sum(dim=1) for m in torch.split(maps, _CHUNK)]
    return maps[torch.cat(energies).argsort(stable=True)]


def _fit_hypotheses(groups: list[Tensor], settings: Settings) -> dict[str, Tensor]:
    means = torch.stack([group.mean(dim=0) for group in groups])
    levels = len(settings.eps) + 1
    centred = torch.cat([groups[level] - means[level] for level in range(levels)])
    whitening = shrunk_whitening(centred, _shrinkage(groups, settings))
    return {"means": means, "whitening": whitening}


def _shrinkage(groups: list[Tensor], settings: Settings) -> float:
    samples, features = groups[0].shape
    usual = features / (features + 10 * samples)
    return usual if settings.shrinkage is None else settings.shrinkage


def _held_out_evidence(groups: list[Tensor], settings: Settings) -> list[Tensor]:
    """
    Evidence on ID samples as they are, and with each residue; each part is judged by hypotheses
    that were fitted to the others: as new images will be, whatever the number of samples.
    """
    judged = groups[: len(settings.eps) + 1]
    count = len(groups[0])
    found = [group.new_empty(count) for group in judged]
    for part in range(min(_PARTS, count)):
        own = torch.arange(count, device=groups[0].device) % min(_PARTS, count) == part
        fitted = _fit_hypotheses([group[~own] for group in groups], settings)
        for values, group in zip(found, judged, strict=True):
            values[own] = evidence(hypotheses(group[own], fitted, settings))
    return found


def _feature_groups(
    geometry: Geometry,
    maps: Tensor,
    reader: Reader,
    windows: Windows,
    scale: Tensor,
    settings: Settings,
) -> list[Tensor]:
    """
    Features of ID samples: as they are, with each residue, with those beyond the budget, and with
    smooth residues of all strengths in turn.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    for_smooth = torch.Generator().manual_seed(settings.seed)
    counts = windows.count(tuple(maps.shape[2:]))
    beyond = [max(settings.eps) * factor for factor in _BEYOND]
    strengths = (0.0, *settings.eps, *beyond)
    chunks = []
    for part in torch.split(maps, _CHUNK):
        local, around = reader.from_maps(part, windows)
        shape = (geometry, windows, counts, len(part), scale)
        white = random_residue(reader, *shape, generator)
        noise, more = reader.of_residue(geometry, white, windows)
        groups = [reader.features((local + e * noise, around + e * more)) for e in strengths]
        blurred = random_residue(reader, *shape, for_smooth, width=_SMOOTH)
        noise, more = reader.of_residue(geometry, blurred, windows)
        turns = local.new_tensor(settings.eps).repeat(len(part))[: len(part)].view(-1, 1, 1)
        smooth = reader.features((local + turns * noise, around + turns * more))
        chunks.append([*groups, smooth])
    return [torch.cat(group) for group in zip(*chunks, strict=True)]
