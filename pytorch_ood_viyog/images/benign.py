"""
Benign changes by name: what happens to images without anybody meaning harm.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from . import codecs, filters, noise
from .pixels import check_images, to_8_bit

__all__ = ["BENIGN_KINDS", "BenignChange"]


@dataclass(frozen=True)
class _Kind:
    change: Callable[..., Tensor]
    unit: str
    low: float
    high: float
    random: bool = False
    channels: tuple[int, ...] = ()


_KINDS = {
    "white noise": _Kind(noise.white_noise, "/255", 0, 255, random=True),
    "Poisson-Gaussian noise": _Kind(noise.poisson_gaussian_noise, "/255", 0, 255, random=True),
    "correlated noise": _Kind(noise.correlated_noise, "/255", 0, 255, random=True),
    "demosaiced noise": _Kind(noise.demosaiced_noise, "/255", 0, 255, True, channels=(3,)),
    "JPEG": _Kind(codecs.jpeg, " quality", 1, 95, channels=(1, 3)),
    "WebP": _Kind(codecs.webp, " quality", 1, 100, channels=(1, 3)),
    "resampling": _Kind(filters.resample, " of the size", 0.05, 20),
    "blur": _Kind(filters.gaussian_blur, " px", 0.1, 100),
    "sharpening": _Kind(filters.sharpen, " %", 0, 1000),
    "contrast": _Kind(filters.change_contrast, " times", 0, 100),
    "gamma": _Kind(filters.change_gamma, "", 0.01, 100),
    "bit depth": _Kind(filters.reduce_bit_depth, " bit", 1, 8),
}

#: names of the kinds of benign changes
BENIGN_KINDS = tuple(_KINDS)


@dataclass(frozen=True)
class BenignChange:
    """
    One kind of change at one strength, a function of images in [0, 1].

    ========================== =========================================================
    kind                       strength
    ========================== =========================================================
    ``white noise``            standard deviation in grey levels of 255
    ``Poisson-Gaussian noise`` standard deviation at mid-grey, in grey levels of 255
    ``correlated noise``       standard deviation in grey levels of 255 (over 0.7 px)
    ``demosaiced noise``       standard deviation at measured pixels, grey levels of 255
    ``JPEG``                   quality, 1 to 95 (needs Pillow)
    ``WebP``                   quality, 1 to 100 (needs Pillow with WebP)
    ``resampling``             size in between, as share of the height and width
    ``blur``                   standard deviation of the Gaussian in pixels
    ``sharpening``             unsharp mask of 1 px, in percent
    ``contrast``               factor of the distance from mid-grey
    ``gamma``                  exponent
    ``bit depth``              bits a channel
    ========================== =========================================================

    .. rubric:: Examples

    .. code-block:: python

        change = BenignChange("white noise", 8)
        print(change)                      # white noise 8/255
        noisy = change(images, seed=1)     # images in [0, 1], rounded to 8 bit
    """

    #: one of :data:`BENIGN_KINDS`
    kind: str
    #: how much of it, see the table
    strength: float

    def __post_init__(self) -> None:
        """
        :raises ValueError: if there is no such kind, or the strength is out of range
        """
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(BENIGN_KINDS)}, got {self.kind!r}.")
        low, high = _KINDS[self.kind].low, _KINDS[self.kind].high
        if not low <= self.strength <= high:
            raise ValueError(
                f"strength of {self.kind} must be from {low:g} to {high:g}, got {self.strength}."
            )

    def __call__(self, x: Tensor, *, seed: int = 0) -> Tensor:
        """
        :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
        :param seed: seed of what is random in it
        :return: changed images, rounded to 8 bit
        :raises TypeError: if ``x`` is no floating point tensor
        :raises ValueError: if images are outside [0, 1], or have a number of channels for which
            this change does not exist
        :raises ImportError: if a codec is not installed
        """
        kind = _KINDS[self.kind]
        check_images(x, kind.channels)
        drawn = {"seed": seed} if kind.random else {}
        return to_8_bit(kind.change(x, self.strength, **drawn))

    def suits(self, channels: int) -> bool:
        """:return: whether the change exists for images of so many channels"""
        wanted = _KINDS[self.kind].channels
        return not wanted or channels in wanted

    @property
    def available(self) -> bool:
        """Whether the codec that the change needs, if any, is installed."""
        return codecs.available(self.kind) if self.kind in ("JPEG", "WebP") else True

    def __str__(self) -> str:
        return f"{self.kind} {self.strength:g}{_KINDS[self.kind].unit}"
