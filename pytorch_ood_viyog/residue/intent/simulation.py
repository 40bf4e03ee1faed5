"""
ID inputs with benign changes and with residues that are shaped as an attack's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...images.benign import BenignChange
from ...images.pixels import to_8_bit
from .shapes import Direction, residue

__all__ = ["SIMULATED", "UnitRange", "benign_inputs", "simulate"]

#: the benign changes that intent is told from, at the strengths that are met
SIMULATED = tuple(
    BenignChange(kind, strength)
    for kind, strengths in {
        "white noise": (1, 2, 4, 8, 16),
        "Poisson-Gaussian noise": (2, 4, 8),
        "correlated noise": (4, 8),
        "demosaiced noise": (4, 8),
        "JPEG": (90, 75, 50),
        "WebP": (80,),
        "sharpening": (50, 100, 200),
        "blur": (1,),
        "resampling": (0.5, 0.75),
        "contrast": (1.4,),
        "gamma": (1.5,),
        "bit depth": (6, 5),
    }.items()
    for strength in strengths
)

# these exist at any strength between those named; a quarter of the samples gets each factor, so
# that no strength lies far from all that were simulated
_OF_DEGREE = (
    "white noise",
    "Poisson-Gaussian noise",
    "correlated noise",
    "demosaiced noise",
    "sharpening",
)
_BETWEEN = tuple(2 ** (eighths / 8) for eighths in (-3, -1, 1, 3))


@dataclass(frozen=True)
class UnitRange:
    """Between the layer's inputs and images in [0, 1]."""

    #: least value of each channel
    low: Tensor
    #: dynamic range of each channel
    scale: Tensor

    def to_unit(self, inputs: Tensor) -> Tensor:
        """:return: inputs as images; what is outside the range is clipped"""
        return ((inputs - self._like(self.low, inputs)) / self.of_scale(inputs)).clamp(0, 1)

    def from_unit(self, images: Tensor) -> Tensor:
        """:return: images in [0, 1] as inputs of the layer"""
        return images * self._like(self.scale, images) + self._like(self.low, images)

    def of_scale(self, inputs: Tensor) -> Tensor:
        """:return: the range, to broadcast with inputs"""
        return self._like(self.scale, inputs)

    @staticmethod
    def _like(values: Tensor, inputs: Tensor) -> Tensor:
        return values.to(inputs).view(-1, *[1] * (inputs.dim() - 2))


def benign_inputs(
    inputs: Tensor, change: BenignChange, units: UnitRange, seed: int
) -> Tensor | None:
    """
    Inputs of the layer after a benign change; ``None`` if that does not exist for these: signals
    and volumes are taken apart into images of their last two axes, which only noise and filters
    suit; or if its codec is not installed.
    """
    if not change.available or not change.suits(inputs.shape[1] if inputs.dim() == 4 else 0):
        return None
    images = units.to_unit(inputs)
    flat = _as_images(images)
    return units.from_unit(change(flat, seed=seed).reshape(images.shape))


def simulate(
    inputs: Tensor,
    units: UnitRange,
    directions: dict[str, tuple[Direction, int]],
    eps: tuple[float, ...],
    seed: int,
) -> Iterator[tuple[bool, str, Tensor]]:
    """
    :param inputs: inputs of the layer for ID samples
    :param units: their range
    :param directions: name -> direction and number of steps, see
        :func:`~pytorch_ood_viyog.residue.intent.shapes.residue`; those without steps, the
        weakest of attacks, get the two least strengths only
    :param eps: strengths of residues, ascending
    :param seed: seed of noise
    :return: for each change, at strengths up to 30 % above and below that in its name: whether it
        is attack-shaped, its name, and changed inputs, rounded to 8 bit and clipped to the range
    """
    for number, change in enumerate(SIMULATED):
        # noise of its own for each: with shared noise, strengths look too much alike
        changed = _benign_between(inputs, change, units, seed + number)
        if changed is not None:
            yield False, str(change), changed
    scale = units.of_scale(inputs)
    clipped = units.from_unit(units.to_unit(inputs))
    factors = torch.tensor(_BETWEEN, dtype=inputs.dtype, device=inputs.device)
    factors = factors.repeat(len(inputs))[: len(inputs)].view(-1, *[1] * (inputs.dim() - 1))
    for name, (direction, steps) in directions.items():
        for strength in eps if steps else eps[:2]:
            moved = residue(clipped, direction, scale, factors * strength, steps)
            yield True, f"{name} {strength:g}", units.from_unit(to_8_bit(units.to_unit(moved)))


def _benign_between(
    inputs: Tensor, change: BenignChange, units: UnitRange, seed: int
) -> Tensor | None:
    if change.kind not in _OF_DEGREE:
        return benign_inputs(inputs, change, units, seed)
    whole = inputs.clone()
    for number, factor in enumerate(_BETWEEN):
        own = BenignChange(change.kind, factor * change.strength)
        part = benign_inputs(
            inputs[number :: len(_BETWEEN)], own, units, seed + number * len(SIMULATED)
        )
        if part is None:
            return None
        whole[number :: len(_BETWEEN)] = part.to(whole)
    return whole


def _as_images(x: Tensor) -> Tensor:
    if x.dim() == 3:
        return x.unsqueeze(2)
    return x if x.dim() == 4 else x.flatten(1, 2)
