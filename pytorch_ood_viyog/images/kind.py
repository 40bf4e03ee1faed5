"""
What kind of images a detector was fitted on: their levels (8 bit, or floats), range and size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import EllipsisType

import torch
from torch import Tensor

__all__ = ["ImageKind", "WayWarning", "common_step", "is_rounded", "level_steps"]

# values of a channel that are looked at, and fewest that tell anything
_LOOKED_AT, _FEWEST = 1024, 384
# gaps between values that are rounding of a float and no step between levels, as share of the
# values' range
_ROUNDING = 1 / 4096
# how far values may lie from a level, in steps, and outside the range that was seen, as share of
# it
_OFF, _BEYOND = 0.02, 0.25
_LEVELS = 256
# how far a step may be from a multiple of another
_NO_MULTIPLE = 0.05
# instead of a step: images do not tell; each of them has another
_UNKNOWN, _VARYING = -1.0, -2.0
# images of a batch that are looked at
_IMAGES = 4
# ranges that images usually have: black and the step between levels
_USUAL = ((0.0, 1 / 255), (-1.0, 2 / 255), (0.0, 1.0))


class WayWarning(UserWarning):
    """
    Images came another way than those that a detector was fitted on: it reads what lies below a
    grey level, and that is another now. Silence it by ``warnings.filterwarnings("ignore",
    category=WayWarning)``.
    """


def level_steps(x: Tensor) -> Tensor:
    """
    The step between neighbouring levels of 8-bit images, whatever normalisation came after:
    such a channel has at most 256 values, evenly spaced; one that was resized as floats has tens
    of thousands.

    :param x: images, :math:`B \\times C \\times *S`
    :return: of shape :math:`B \\times C`: the step; 0 where there are no such levels;
        infinity where the image does not tell, as it has few values
    """
    values = _some(x).sort(dim=2).values
    gaps = values.diff(dim=2)
    width = values[:, :, -1] - values[:, :, 0]
    real = gaps > _ROUNDING * width[:, :, None]
    levels = real.sum(dim=2)
    smallest = torch.where(real, gaps, torch.inf).amin(dim=2)
    # of many steps together, the mean is sharper than the smallest
    step = width / (width / smallest).round().clamp_min(1)
    offset = (values - values[:, :, :1]) / step.clamp_min(1e-30)[:, :, None]
    even = ((offset - offset.round()).abs() <= _OFF).all(dim=2)
    rounded = even & (levels < _LEVELS) & (width <= (_LEVELS - 0.5) * step)
    # half precision rounds more than levels are apart
    telling = (levels >= 2) & (values.shape[2] >= _FEWEST) & (x.dtype.itemsize >= 4)
    return torch.where(telling, torch.where(rounded, step, 0.0), torch.inf)


def common_step(steps: Tensor) -> Tensor:
    """
    :param steps: between the levels of some images, see
        :func:`level_steps`, :math:`B \\times C`
    :return: the least; NaN, for good, where others are no multiples of it, as where each image is
        normalised by itself: levels tell nothing there
    """
    least = steps.amin(dim=0)
    multiples = steps / torch.where(least > 0, least, 1.0)
    apart = (multiples - multiples.round()).abs() > _NO_MULTIPLE
    varying = (torch.isfinite(steps) & apart).any(dim=0) & (least > 0)
    return torch.where(varying, torch.nan, least)


def is_rounded(x: Tensor) -> bool:
    """
    :param x: images of any range, also normalised, :math:`B \\times C \\times *S`
    :return: whether all of them have 8-bit levels; images too small or too plain to tell, as long
        as they are in [0, 1] or [0, 255], by these levels
    """
    steps = level_steps(x) if x.numel() else x.new_empty(0)
    if bool((steps == 0).any()):
        return False
    if bool(torch.isfinite(steps).any()):
        return True
    scaled = _wide(x) * (255 if bool((x <= 1).all()) else 1)
    return bool(((scaled - scaled.round()).abs() <= _OFF).all())


@dataclass(frozen=True)
class ImageKind:
    """What images had at fit, per channel: :meth:`differences` says what others do not have."""

    #: least value
    low: Tensor
    #: largest value
    high: Tensor
    #: step between 8-bit levels; 0: none, as for floats; -1: not known; -2: of each image another
    step: Tensor
    #: spatial shape; empty: not known
    size: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor | None) -> "ImageKind":
        """
        :param x: some images of a fit, :math:`B \\times C \\times *S`; ``None`` where they are
            not known
        :return: what they have; the levels are those of the first
        """
        if x is None or x.dim() < 3:
            return cls.of_tensors({"seen": torch.zeros(3, 0), "seen_size": torch.zeros(0)})
        low, high = torch.aminmax(x.transpose(0, 1).flatten(1), dim=1)
        step = level_steps(x[:1])[0]
        step = torch.where(torch.isfinite(step), step, _UNKNOWN)
        return cls(_wide(low), _wide(high), step, tuple(x.shape[2:]))

    @classmethod
    def of_tensors(cls, known: Mapping[str, Tensor]) -> "ImageKind":
        """:return: what :meth:`tensors` gave, back"""
        low, high, step = known["seen"].unbind()
        size = tuple(int(side) for side in known["seen_size"].tolist())
        return cls(low, high, step, size if all(side > 0 for side in size) else ())

    def tensors(self) -> dict[str, Tensor]:
        """:return: ``seen``, least and largest values and steps as rows, and ``seen_size``"""
        seen = torch.stack([self.low, self.high, self.step])
        return {"seen": seen, "seen_size": torch.tensor(self.size)}

    @property
    def is_known(self) -> bool:
        """Whether images were seen at all, and not only their maps."""
        return bool((self.high > self.low).any())

    def together(self, other: "ImageKind") -> "ImageKind":
        """:return: what these and further images of the fit have"""
        if not self.low.numel() or not other.low.numel():
            return self if self.low.numel() else other
        low, high, step = (each.to(self.low) for each in (other.low, other.high, other.step))
        steps = torch.stack([self.step, step])
        common = common_step(torch.where(steps < 0, torch.inf, steps))
        common = torch.where(torch.isinf(common), _UNKNOWN, common)
        varying = torch.isnan(common) | (steps == _VARYING).any(dim=0)
        return ImageKind(
            torch.minimum(self.low, low),
            torch.maximum(self.high, high),
            torch.where(varying, _VARYING, common),
            self.size if self.size == other.size else (),
        )

    def differences(self, x: Tensor) -> list[str]:
        """
        :param x: images, :math:`B \\times C \\times *S`
        :return: a sentence for each thing that is not as at fit; the levels are those of the
            first image
        """
        found = []
        if self._other_size(x):
            found.append(f"the size is {tuple(x.shape[2:])}, at fit it was {self.size}")
        some = _some(x[:_IMAGES]).transpose(0, 1).flatten(1).to(self.low.device)
        low, high = torch.aminmax(some, dim=1)
        least, largest = self._limits
        if bool(((low < least) | (high > largest)).any()):
            found.append(
                f"values reach from {low.min():.4g} to {high.max():.4g}, at fit they did from "
                f"{self.low.min():.4g} to {self.high.max():.4g} (another normalisation?)"
            )
        elif x.dtype.itemsize >= 4 and self._levels is not None:
            found += self._other_levels(x[:1], some)
        return found

    def plainly_differs(self, x: Tensor) -> bool:
        """
        :param x: images, :math:`B \\times C \\times *S`
        :return: whether size or range are other than at fit in all channels together: what a
            glance at the first images tells
        """
        low, high = torch.aminmax(x[:_IMAGES])
        least, largest = self._widest
        return self._other_size(x) or low.item() < least or high.item() > largest

    def _other_size(self, x: Tensor) -> bool:
        # where a fit left out axes of length 1, sizes are not compared
        return len(self.size) == x.dim() - 2 and tuple(x.shape[2:]) != self.size

    # once for a fit: each batch is compared with them
    @cached_property
    def _widest(self) -> tuple[float, float]:
        least, largest = self._limits
        return float(least.min()), float(largest.max())

    @cached_property
    def _limits(self) -> tuple[Tensor, Tensor]:
        slack = _BEYOND * (self.high - self.low)
        return self.low - slack, self.high + slack

    @cached_property
    def _levels(self) -> bool | None:
        """Whether images had levels; ``None``: not known."""
        return bool((self.step > 0).all()) if bool((self.step >= 0).all()) else None

    def black_and_width(self) -> tuple[Tensor, Tensor]:
        """
        :return: value of black and distance to white, per channel: by the step between levels
            where there is one, as not all images reach both ends
        """
        width = torch.where(self.high > self.low, self.high - self.low, 1.0)
        if not self._levels:
            return self.low, width
        low = self.low
        for black, step in _USUAL:
            near = (self.step / step - 1).abs() < 1e-3
            low = torch.where(near & (low >= black), black, low)
        return low, (_LEVELS - 1) * self.step

    def _other_levels(self, x: Tensor, some: Tensor) -> list[str]:
        if self._levels:
            offset = (some - self.low[:, None]) / self.step[:, None]
            if float((offset - offset.round()).abs().max()) > 10 * _OFF:
                return [
                    "values lie between the 8-bit levels that images had at fit: they were "
                    "resized as floats, or normalised otherwise"
                ]
            return []
        if bool((torch.isfinite(steps := level_steps(x)) & (steps > 0)).all()):
            return ["images have 8-bit levels, at fit they had none: they were resized as floats"]
        return []


def _some(x: Tensor) -> Tensor:
    """Values of each image and channel, spread over the image."""
    apart = math.ceil((x.shape[2:].numel() / _LOOKED_AT) ** (1 / max(1, x.dim() - 2)))
    index: tuple[EllipsisType | slice, ...] = (..., *[slice(None, None, apart)] * (x.dim() - 2))
    return _wide(x[index].flatten(2))


def _wide(x: Tensor) -> Tensor:
    """As float64, or as float32 where the device has none (Apple's MPS)."""
    return x.float() if x.device.type == "mps" else x.double()
