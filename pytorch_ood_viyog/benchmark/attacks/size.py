"""
How often an attack succeeds, how large its changes are, and what went wrong.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AttackSize", "changes"]


@dataclass(frozen=True)
class AttackSize:
    """
    How often an attack succeeds and how large its successful perturbations are. Means are over
    the successes, NaN where there are none.

    :param attacked: number of images that the model classifies correctly before the attack
    :param succeeded: number of them that it misclassifies after attack and rounding
    :param linf: mean of the largest absolute change, in units of 1/255
    :param rms: mean of the root mean square change, in units of 1/255
    :param images: number of images given, correctly classified or not
    :param fooled: number of attacked images that it misclassifies before they are rounded
    :param l2: mean Euclidean norm of the change, for images in [0, 1]
    :param pixels: mean share of the pixels that are changed
    :param broken: number of attacked images that came back with NaN or infinity: failures
    :param unchanged: number of attacked images that came back, rounded, as they were
    :param outside: number of attacked images that came back outside [0, 1] and were clipped
    :param error: why the attack could not be run to its end, empty if it was
    """

    attacked: int
    succeeded: int
    linf: float
    rms: float
    images: int = 0
    fooled: int = 0
    l2: float = math.nan
    pixels: float = math.nan
    broken: int = 0
    unchanged: int = 0
    outside: int = 0
    error: str = ""

    @property
    def success_rate(self) -> float:
        """``succeeded / attacked``, NaN if nothing was attacked."""
        return self.succeeded / self.attacked if self.attacked else math.nan

    @property
    def remarks(self) -> str:
        """What a reader of the table should know, empty if it is nothing."""
        told = {
            "lost by rounding": self.fooled - self.succeeded,
            "came back unchanged": self.unchanged,
            "not finite": self.broken,
            "outside [0, 1]": self.outside,
        }
        found = [f"{count} {what}" for what, count in told.items() if count > 0]
        return "; ".join([*found, *([self.error] if self.error else [])])


def changes(adversarial: Tensor, x: Tensor) -> Tensor:
    """
    :param adversarial: successful images (N, ...) in [0, 1], rounded
    :param x: the clean images they were made of
    :return: largest and root mean square change in 1/255, Euclidean norm of the change, share of
        the pixels that are changed, shape (N, 4)
    """
    change = (adversarial - x.float()).flatten(1)
    channels = x.shape[1] if x.dim() > 2 else 1
    # half a step of 8 bit: clean images need not be rounded
    pixels = change.abs().view(len(x), channels, change.shape[1] // channels).amax(1) > 0.5 / 255
    found = [
        change.abs().amax(1) * 255,
        change.square().mean(1).sqrt() * 255,
        torch.linalg.vector_norm(change, dim=1),
        pixels.float().mean(1),
    ]
    return torch.stack(found, 1)
