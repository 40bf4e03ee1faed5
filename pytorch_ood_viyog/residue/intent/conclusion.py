"""
The fit of intent: ID images with simulated attacks and benign changes, and what tells them apart.
"""

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from ...fitting.fitted import Statistics
from ..evidence import Settings
from ..reader import Reading
from ..statistics import convolution_of
from .behind import Behind
from .evidence import intent_features
from .layer_gradient import LayerGradient
from .ratio import fit_ratio
from .sample import layer_inputs, least_values
from .shapes import filter_shaped
from .simulation import UnitRange, simulate

__all__ = ["INTENT_SHAPES", "Shaping", "checked_shaping", "conclude_intent"]

#: what shapes the simulated residues of attacks
Shaping = Literal["auto", "filters", "gradients"]

#: shapes of the state that intent adds
INTENT_SHAPES = {
    "low": "I",
    "projection": "D G",
    "shaped": "S D",
    "benign": "N D",
    "unit": "",
    "least_intent": "",
    "by_gradients": "",
}

# samples at once
_CHUNK = 32
# share of the simulated residues whose intent is below what an attack's nearly always exceeds:
# filters only stand in for a gradient that came through them
_BELOW_LEAST = {"gradients": 0.01, "filters": 0.001}


def checked_shaping(name: str, value: Any) -> Shaping:
    """:return: the value, if it is one of the three"""
    if value not in get_args(Shaping):
        raise ValueError(f"{name} must be 'auto', 'filters' or 'gradients', got {value!r}.")
    return cast(Shaping, value)


def conclude_intent(
    statistics: Statistics,
    state: dict[str, Tensor],
    settings: Settings,
    behind: Behind | None,
    read: Callable[[Tensor, dict[str, Tensor]], Reading],
    *,
    gradient: LayerGradient | None,
    optional: bool,
    progress: bool,
) -> dict[str, Tensor]:
    """
    :param statistics: what was kept of the ID data
    :param state: what the residue's own fit found
    :param settings: the detector's settings
    :param behind: sends what is simulated through what lies before the model, if anything
    :param read: reads inputs of the layer
    :param gradient: the model's gradients, if they are to shape residues; else filters do
    :param optional: whether filters will do where the model has no gradients
    :param progress: whether to show a progress bar
    :return: what intent adds to the state: the fields of
        :class:`~pytorch_ood_viyog.residue.intent.ratio.IntentRatio`, ``low`` (the least inputs)
        and ``by_gradients``
    """
    conv = convolution_of(statistics)
    inputs = layer_inputs(conv, statistics)
    if "inputs" not in statistics or (optional and not _usable(gradient, inputs)):
        gradient = None
    known = {"low": least_values(inputs, statistics)}
    units = UnitRange(known["low"], state["scale"])
    if gradient is None:
        generator = torch.Generator().manual_seed(settings.seed)
        sparse, sparser = (filter_shaped(conv, share, generator) for share in (0.1, 0.05))
    else:
        sparse = sparser = gradient
    directions = {"one step": (sparse, 1), "three steps": (sparser, 3), "least": (sparse, 0)}
    groups: dict[tuple[bool, str], list[Tensor]] = {}
    parts = tqdm(
        torch.split(inputs, _CHUNK),
        desc="simulate",
        leave=False,
        delay=1,
        disable=None if progress else True,
    )
    for number, part in enumerate(parts):
        seed = settings.seed + 10000 * number
        for is_shaped, name, changed in simulate(part, units, directions, settings.eps, seed):
            if behind is not None:
                changed = behind.inputs(behind.units.to_unit(changed), number)
            reading = read(changed, state)
            groups.setdefault((is_shaped, name), []).append(intent_features(reading, state))
    features = {kind: torch.cat(found) for kind, found in groups.items()}
    ratio = fit_ratio(
        [f for (is_shaped, _), f in features.items() if is_shaped],
        [f for (is_shaped, _), f in features.items() if not is_shaped],
        _BELOW_LEAST["filters" if gradient is None else "gradients"],
    )
    by_gradients = torch.tensor(float(gradient is not None)).to(known["low"])
    return known | vars(ratio) | {"by_gradients": by_gradients}


def _usable(gradient: LayerGradient | None, inputs: Tensor) -> bool:
    try:
        return gradient is not None and gradient(inputs[:1], inputs[:1]) is not None
    except RuntimeError:
        return False
