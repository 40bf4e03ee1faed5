"""
What lies between the model's input and the input of its layer.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..manners import warn_user
from .composed import ARROW

__all__ = ["Path", "affine_gains", "check_path", "is_resized", "probes", "rearranged"]

# deviation from an affine function of each channel that is none, as share of the largest value
_EXACT = 1e-4
# change of a residue, in grey levels of 255 of the input's range
_LEVELS = 4
# response below this share of the largest of its channel is none
_SILENT = 0.05
# share of the responses that depend on two values of the image, where they should on one
_SHARED = 0.02
# values that one sample gives, per value that it holds: padding by reflection repeats a few
_REPEATED = 1.3
# deviation of the response to half a residue from half the response
_NONLINEAR = 0.3
# share of the variance that a resized image explains
_RESIZED = 0.98


@dataclass(frozen=True)
class Path:
    """
    What lies between the model's input and the input of the layer that is read.

    ``"image"``: nothing, or a scale and an offset for each channel. ``"pixels"``: each value comes
    from one value of the image (padding, space to depth, frames). ``"linear"``: a linear function
    of the image, read together with the layer as one. ``"resized"``: the image in another size.
    ``"other"``: anything else.
    """

    kind: Literal["image", "pixels", "linear", "resized", "other"]
    #: names of the operations in between
    operations: tuple[str, ...] = ()
    #: of ``"image"``: units of the layer's input per unit of the model's, for each channel
    gains: tuple[float, ...] = ()
    #: how far it deviates from a linear function, for ``"other"``
    why: str = ""
    #: name of the layer, and whether it was named by the user
    name: str = ""
    named: bool = False

    def __str__(self) -> str:
        names = ", ".join(self.operations) or "nothing"
        return {
            "image": "the image" + (f" ({names})" if self.operations else ""),
            "pixels": f"the image's values, moved or scaled ({names})",
            "linear": f"a linear function of the image ({names}), read as part of the layer",
            "resized": f"the image in another size ({names})",
            "other": f"{names}; {self.why}",
        }[self.kind]


def affine_gains(taken: Tensor, x: Tensor) -> tuple[float, ...] | None:
    """
    :return: for each channel the median over samples of what one unit of the inputs ``x`` amounts
        to, if each channel of what a layer takes is an affine function of the same channel of
        ``x`` in every sample; else ``None``
    """
    if taken.shape != x.shape or x.dim() < 3 or len(x) == 0:
        return None
    given, got = x.detach().double().flatten(2), taken.detach().double().flatten(2)
    given_centred = given - given.mean(dim=2, keepdim=True)
    got_centred = got - got.mean(dim=2, keepdim=True)
    power = given_centred.square().sum(dim=2, keepdim=True)
    gain = (given_centred * got_centred).sum(dim=2, keepdim=True) / power.clamp_min(1e-300)
    error = (got_centred - gain * given_centred).abs().amax(dim=(0, 2))
    digits = torch.finfo(taken.dtype).eps if taken.is_floating_point() else 0.0
    largest = got.abs().amax(dim=(0, 2))
    # a channel that does not vary is told by its values
    spread = got_centred.abs().amax(dim=(0, 2))
    allowed = _EXACT * spread + max(digits, 1e-6) * largest
    if not bool((error <= allowed).all()):
        return None
    known = power.squeeze(2) > 0
    gains = [
        float(gain[known[:, c], c].median()) if bool(known[:, c].any()) else 1.0
        for c in range(gain.shape[1])
    ]
    return tuple(gains) if all(gains) else None


def check_path(detector: str, path: Path) -> None:
    """
    :raises RuntimeError: if residues do not reach the layer of a detector as they are; a warning
        where the user named that layer
    """
    if path.kind == "resized":
        warn_user(
            f"The model resizes its input before layer {path.name!r}: {detector} reads what is "
            f"left of a residue after that. Give it inputs of the size that the layer takes.",
        )
    if path.kind != "other":
        return
    message = (
        f"{detector} reads a residue at a layer that takes the image, or a linear and local "
        f"function of it. What layer {path.name!r} takes is none: {path.why}. In between were "
        f"found: {', '.join(path.operations) or 'operations that could not be followed'}."
    )
    if not path.named:
        raise RuntimeError(
            f"{message} Name another layer by layer='...' (this one to read it nevertheless, or "
            f"{ARROW + path.name!r} to read all before it too, where that is linear), or give "
            f"the part of the model behind these operations."
        )
    warn_user(f"{message} Its scores may mean little: detector.verify(x) tells.")


def probes(x: Tensor) -> list[Tensor]:
    """
    Model inputs with a residue on a random half of their values, on the other half, on all of
    them, and with half of that: what tells what a layer's input depends on.
    """
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, x.shape, generator=generator).to(x.device) * 2 - 1
    half = torch.randint(0, 2, x.shape, generator=generator).to(x.device).bool()
    if x.is_floating_point():
        low, high = torch.aminmax(x.detach().double())
        residue = (float(high - low) * _LEVELS / 255 or 1.0) * signs
        halved = residue / 2
    else:  # grey levels, which must stay in their range
        signs = torch.where(x > 127, -torch.ones_like(signs), torch.ones_like(signs))
        residue, halved = _LEVELS * signs, _LEVELS * signs // 2
    nothing = torch.zeros_like(residue)
    parts = torch.where(half, residue, nothing), torch.where(half, nothing, residue)
    return [(x + each).to(x.dtype) for each in (*parts, residue, halved)]


def rearranged(base: Tensor, responses: list[Tensor], values: int) -> tuple[bool, bool, str]:
    """
    :param base: what a layer takes for the inputs, all its calls, first dimension rows
    :param responses: the same for each of :func:`probes`
    :param values: number of values in one sample of the model's input
    :return: whether each value comes from one value of the image; whether no sample repeats
        them; and if not the first, what was found
    """
    one, other, both = ((r.double() - base.double()).abs() for r in responses[:3])
    signed, halved = responses[2].double() - base.double(), responses[3].double() - base.double()
    size = float(signed.abs().sum())
    if not size > 0:
        return False, False, "a small change of the image does not reach it"
    largest = both.transpose(0, 1).flatten(1).amax(dim=1)
    limit = (_SILENT * largest).view(1, -1, *[1] * (both.dim() - 2)).clamp_min(1e-300)
    shared = float(((one > limit) & (other > limit)).double().sum() / (both > limit).sum())
    deviation = float((halved - signed / 2).abs().sum()) / (size / 2)
    repeats = float((both > limit).flatten(1).sum(dim=1).max()) / values
    if deviation > _NONLINEAR:
        why = f"half a residue changes it by {deviation:.0%} more or less than half as much"
        return False, False, why
    if shared > _SHARED:
        return False, False, f"{shared:.0%} of its values depend on several values of the image"
    return True, repeats <= _REPEATED, ""


def is_resized(taken: Tensor, x: Tensor) -> bool:
    """:return: whether what a layer takes is the image ``x`` in another size"""
    if taken.dim() != 4 or x.dim() != 4 or taken.shape[:2] != x.shape[:2]:
        return False
    if taken.shape == x.shape or not taken.is_floating_point():
        return False
    size = tuple(taken.shape[2:])
    resized = interpolate(x.double(), size=size, mode="bilinear", antialias=True)
    given = (resized - resized.mean(dim=(2, 3), keepdim=True)).flatten(2)
    got = (taken.double() - taken.double().mean(dim=(2, 3), keepdim=True)).flatten(2)
    explained = (given * got).sum(dim=2).square()
    whole = given.square().sum(dim=2) * got.square().sum(dim=2)
    return bool((explained >= _RESIZED * whole).all())
