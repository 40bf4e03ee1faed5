"""
The fit of ViyogResidue: from a sample of ID maps to directions, hypotheses and their scale.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..fitting.fitted import Statistics
from ..images.kind import common_step, level_steps
from ..layer.linear.effective_convolution import EffectiveConvolution
from ..layer.manners import warn_user
from .directions import fit_reader
from .evidence import Settings, evidence, hypotheses
from .hypotheses import fisher_contrast, shrunk_whitening
from .intent.behind import Behind
from .maps import responses
from .random_residues import random_residue
from .reader import Reader, Reading
from .statistics import convolution_of, dynamic_range
from .windows import Windows

__all__ = ["FEWEST", "SHAPES", "conclude"]

#: tensors of a fitted state, and the lengths of their axes
SHAPES = {
    "mean": "C",
    "local": "M C",
    "window": "R W ...",
    "local_kernel": "M I ...",
    "window_kernel": "R I ...",
    "local_offset": "M",
    "window_offset": "R",
    "energies": "K",
    "empty": "Z C",
    "geometry": "6 Y",
    "scale": "I",
    "seen": "3 I",
    "seen_size": "H",
    "means": "L F",
    "whitening": "F F",
    "centre": "",
    "spread": "",
    "least": "E",
    "contrast": "F",
    "smooth_contrast": "F",
}

#: images below which nothing is held out that could be judged
FEWEST = 4

# strengths beyond the budget, in multiples of the largest eps: what looks like these is OOD
_BEYOND = (4, 8, 16)
# samples at once
_CHUNK = 8
# blur of smooth residues, in positions of the layer's input
_SMOOTH = 1.5
# of the response to an empty direction's kernels, what equal channels give together: rounding
_GREY = 0.02
# share of the pairs of ID with and without residues that evidence must order, and the fewest ID
# images that tell
_TOLD, _JUDGED = 0.9, 16
# parts of the ID sample that are judged by hypotheses fitted to the other parts
_PARTS = 8
# share of the residues of a strength that score below its entry in `least`
_BELOW_LEAST = 0.01


def conclude(
    statistics: Statistics,
    settings: Settings,
    behind: Behind | None = None,
    read: Callable[[Tensor, dict[str, Tensor]], Reading] | None = None,
) -> dict[str, Tensor]:
    """
    :param statistics: what was kept of the ID data
    :param settings: the detector's settings
    :param behind: sends ID images and residues through what lies before the model, if anything
    :param read: reads inputs of the layer in the directions found, for these
    :return: fitted state: the :class:`Reader`'s directions and kernels, ``geometry`` of the layer,
        ``scale`` (dynamic range of the input), ``seen`` and ``seen_size`` (its extremes, levels
        and size), ``means`` and ``whitening`` of the hypotheses,
        ``centre`` and ``spread`` of the evidence on ID, ``least`` scores of ID with the residue of
        each strength, and the ``contrast`` of ID and ADV, also with ``smooth`` residues
    """
    conv = convolution_of(statistics)
    windows = Windows.of(conv.geometry, tuple(statistics["shape"].tolist()))
    scale = dynamic_range(conv, statistics, settings.input_range)
    clean = None if behind is None else behind.clean()
    maps = statistics["sample"] if clean is None else _maps_of(clean, conv, windows)
    _check_enough(len(statistics["sample"]))
    order = _own_order(maps)
    reader = fit_reader(conv, maps, order, windows, scale, settings.directions)
    known = {"scale": scale, "geometry": statistics["geometry"], **_kind(statistics, clean)}
    state = vars(reader) | known
    if behind is None or read is None:
        *groups, smooth = _feature_groups(conv, maps, order, reader, windows, scale, settings)
    else:
        *groups, smooth = behind.groups(
            lambda inputs: read(inputs, state).features,
            _strengths(settings),
            settings.eps,
            _SMOOTH,
        )
    state |= _fit_hypotheses(groups, settings)
    evidence, *with_residues = _held_out_evidence(groups, settings)
    _warn_if_blind(evidence, with_residues, settings)
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


def _warn_if_blind(evidence: Tensor, with_residues: list[Tensor], settings: Settings) -> None:
    pairs = [float((found[:, None] > evidence).double().mean()) for found in with_residues]
    if len(evidence) >= _JUDGED and max(pairs) < _TOLD:
        warn_user(
            f"At the layer that is read, residues of up to {255 * max(settings.eps):.3g}/255 can "
            f"hardly be told from none: of ID images held out at fit, {max(pairs):.0%} of all "
            f"pairs are in order. Scores will mean little. The layer keeps too little of the "
            f"image, or ID images are as noisy themselves: describe() tells what is read, "
            f"verify() tries it, layer='...' names another.",
        )


def _maps_of(inputs: Tensor, conv: EffectiveConvolution, windows: Windows) -> Tensor:
    parts = torch.split(inputs, _CHUNK)
    return torch.cat([windows.pack(conv.maps(part)) for part in parts])


def _kind(statistics: Statistics, clean: Tensor | None) -> dict[str, Tensor]:
    """Range and levels of the inputs, as rows, and their size; zeros where not known."""
    low, high, step = (statistics[name] for name in ("low", "high", "step"))
    step = step if clean is None else common_step(level_steps(clean)).to(step)
    seen = torch.stack([low, high, torch.where(torch.isfinite(step), step, -1.0)])
    seen = torch.where(torch.isfinite(low), seen, torch.tensor([[0.0], [0.0], [-1.0]]).to(seen))
    return {"seen": seen, "seen_size": statistics["input_shape"]}


def _strengths(settings: Settings) -> tuple[float, ...]:
    """None, those of ``eps``, and those beyond the budget."""
    return (0.0, *settings.eps, *(max(settings.eps) * factor for factor in _BEYOND))


def _check_enough(samples: int) -> None:
    if samples < FEWEST:
        raise ValueError(
            f"ViyogResidue needs at least {FEWEST} ID images to tell what is usual among them, "
            f"got {samples}. Fit it to more; 64 and more are better."
        )


def _own_order(maps: Tensor) -> Tensor:
    """
    Indices of the samples, ordered by energy, so that the order they were drawn in does not deal
    out the signs of residues. The maps may be too large to have them twice.
    """
    energies = [m.double().flatten(1).square().sum(dim=1) for m in torch.split(maps, _CHUNK)]
    return torch.cat(energies).argsort(stable=True)


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


def _are_grey(conv: EffectiveConvolution, reader: Reader, scale: Tensor) -> bool:
    """
    Whether ID images leave empty what differs between channels, and that alone: an attack may have
    been made before the channels were, and be the same in all of them, or after.
    """
    kernels = torch.einsum("zc,ci...->zi...", reader.empty.double(), conv.kernel.double())
    kernels = kernels * scale.double().view(-1, *[1] * (kernels.dim() - 2))
    together = kernels.sum(dim=1).norm()
    return len(kernels) > 0 and bool(together < _GREY * kernels.norm())


def _feature_groups(
    conv: EffectiveConvolution,
    maps: Tensor,
    order: Tensor,
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
    strengths = _strengths(settings)
    geometry, grey = conv.geometry, _are_grey(conv, reader, scale)
    chunks = []
    for chosen in torch.split(order, _CHUNK):
        part = maps[chosen]
        (local, around), flat = responses(reader, part, windows)
        shape = (geometry, windows, counts, len(part), scale)
        white = random_residue(reader, *shape, generator, grey=grey)
        noise, more = reader.of_residue(geometry, white, windows)
        groups = [reader.features((local, around), flat, windows)]
        # with a residue, no place is constant
        groups += [reader.features((local + e * noise, around + e * more)) for e in strengths[1:]]
        blurred = random_residue(reader, *shape, for_smooth, width=_SMOOTH, grey=grey)
        noise, more = reader.of_residue(geometry, blurred, windows)
        turns = local.new_tensor(settings.eps).repeat(len(part))[: len(part)].view(-1, 1, 1)
        smooth = reader.features((local + turns * noise, around + turns * more))
        chunks.append([*groups, smooth])
    return [torch.cat(group) for group in zip(*chunks, strict=True)]
