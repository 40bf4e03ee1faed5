"""
Between model inputs, which may be normalised, and images in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .kind import level_steps
from .pixels import standard_normal

__all__ = ["PixelRange"]

Bound = float | Sequence[float]

# ranges that inputs usually have; what lies within is taken for it
_USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
# share of the range that inputs may lie outside: half an 8-bit step, and a little rounding
_SLACK = 1 / 255
# how many steps of 8 bit levels may be apart, and how far inputs may lie from one, in steps
_COARSE, _OFF = 4, 0.02


@dataclass(frozen=True)
class PixelRange:
    """
    Black and white in model inputs, for each channel: normalised inputs have another range a
    channel.
    """

    #: values of black and of white, shape :math:`C`
    low: Tensor
    high: Tensor
    #: type of the inputs
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, x: Tensor, given: tuple[Bound, Bound] | None) -> "PixelRange":
        """
        :param x: ID inputs, :math:`B \\times C \\times *S`
        :param given: black and white, one number each or one per channel; ``None`` to read them
            from ``x``: the narrowest of [0, 1], [-1, 1] and [0, 255] that holds all of it if it
            fills at least half of that, otherwise the extremes of each channel
        :return: the range
        :raises ValueError: if the numbers given do not fit the channels, or white is not above
            black
        """
        channels = x.shape[1]
        values = x.double().transpose(0, 1).flatten(1)
        if given is None:
            low, high = _read(values)
        else:
            low, high = (torch.as_tensor(b, dtype=torch.float64).to(x.device) for b in given)
        if low.numel() not in (1, channels) or high.numel() not in (1, channels):
            raise ValueError(
                f"pixel_range must be black and white, each one number or one for each of the "
                f"{channels} channels, got {given}."
            )
        low, high = low.expand(channels).clone(), high.expand(channels).clone()
        if not bool((high > low).all()):
            raise ValueError(f"White must be above black in pixel_range, got {given}.")
        return cls(low, high, x.dtype)

    def images(self, x: Tensor) -> Tensor:
        """:return: model inputs as images, in [0, 1] where they are within the range"""
        low, width = self._broadcast(x)
        return (x.float() - low) / width

    def inputs(self, images: Tensor, like: Tensor | None = None) -> Tensor:
        """:return: images as model inputs, of the type of other inputs or of :attr:`dtype`"""
        low, width = self._broadcast(images)
        return (images * width + low).to(self.dtype if like is None else like.dtype)

    def noisy(self, x: Tensor, strength: float, seed: int) -> Tensor:
        """
        :param x: model inputs
        :param strength: standard deviation of white noise, as a fraction of the range
        :param seed: seed of the noise
        :return: the inputs with noise, within the range as a camera's are, and of 8-bit levels
            where the inputs are
        """
        low, width = self._broadcast(x)
        noise = standard_normal(x.float(), seed) * strength * width
        step = self._steps(x, low, width)
        noise = torch.where(step > 0, (noise / step).round() * step, noise)
        return (x.float() + noise).clamp(low, low + width).to(x.dtype)

    def check(self, images: Tensor) -> None:
        """Refuses what :meth:`images` gave outside of [0, 1] by more than a step of 8 bit."""
        if images.numel() == 0:
            return
        low, high = (float(v) for v in torch.aminmax(images))
        if low < -_SLACK or high > 1 + _SLACK:
            raise ValueError(
                f"JPEG holds values between black and white only, but the inputs lie between "
                f"{low:.3g} and {high:.3g} of the range from {self.low.tolist()} (0) to "
                f"{self.high.tolist()} (1). Name the range of your inputs by "
                f"pixel_range=(black, white): (0, 1), (0, 255), or where they are normalised "
                f"(-mean / std, (1 - mean) / std) for each channel."
            )

    @staticmethod
    def _steps(x: Tensor, low: Tensor, width: Tensor) -> Tensor:
        """Between levels, for each channel; 0 for inputs without."""
        steps = level_steps(x).amin(dim=0).float().view_as(width)
        # too few values to tell, or levels far apart: those of 8 bit in this range, if they fit
        usual = width / 255
        offset = (x.float() - low) / usual
        fits = ((offset - offset.round()).abs() <= _OFF).all()
        return torch.where(steps <= _COARSE * usual, steps, usual * fits)

    def _broadcast(self, x: Tensor) -> tuple[Tensor, Tensor]:
        space = [1] * (x.dim() - 2)
        low = self.low.to(x.device).float().view(-1, *space)
        high = self.high.to(x.device).float().view(-1, *space)
        return low, high - low


def _read(values: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.aminmax(values, dim=1)
    for black, white in _USUAL:
        inside = bool(low.min() >= black) and bool(high.max() <= white)
        if inside and float(high.max() - low.min()) >= (white - black) / 2:
            return torch.tensor(black, dtype=torch.float64), torch.tensor(
                white, dtype=torch.float64
            )
    # a constant channel tells nothing of its range: it gets that of the widest
    width = (high - low).max().clamp_min(1e-12)
    return low, torch.where(high > low, high, low + width)
