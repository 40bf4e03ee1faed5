"""
A benign change for each sample, drawn at random from those that are simulated at fit.
"""

import torch
from torch import Tensor

from .simulation import SIMULATED, UnitRange, benign_inputs

__all__ = ["randomly_changed"]

# how far inputs may be outside the range that was read at fit, as share of it
_BEYOND = 0.25


def randomly_changed(inputs: Tensor, units: UnitRange, seed: int) -> Tensor:
    """
    :param inputs: inputs of the layer, :math:`B \\times I \\times *S`
    :param units: their range
    :param seed: seed of the draw and of noise
    :return: changed inputs, same shape
    :raises ValueError: if inputs are outside the range
    """
    _check_range(inputs, units)
    possible = [c for c in SIMULATED if benign_inputs(inputs[:0], c, units, 0) is not None]
    drawn = torch.randint(
        len(possible), inputs.shape[:1], generator=torch.Generator().manual_seed(seed)
    ).to(inputs.device)
    changed = inputs.clone()
    for number, change in enumerate(possible):
        part = benign_inputs(inputs[drawn == number], change, units, seed)
        if part is not None:
            changed[drawn == number] = part.to(changed)
    return changed


def _check_range(inputs: Tensor, units: UnitRange) -> None:
    values = units.unclipped(inputs)
    if values.numel() and not bool((values.amin() >= -_BEYOND) & (values.amax() <= 1 + _BEYOND)):
        low, high = units.low.tolist(), (units.low + units.scale).tolist()
        raise ValueError(
            f"Benign changes need inputs in the range that was read at fit, from {low} to {high} "
            f"per channel of the layer's input; got values from {inputs.amin():.4g} to "
            f"{inputs.amax():.4g}. Give the range by input_range=..., or fit on data of all of it."
        )
