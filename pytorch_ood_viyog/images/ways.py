"""
Ways: what happens to an image between an attacker, or the camera, and the model, by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import codecs, resizing
from .benign import BENIGN_KINDS, BenignChange
from .pixels import check_images, to_8_bit

__all__ = ["Through", "Way", "apply_ways", "checked_through", "require_ways"]

#: a way: its name, a :class:`Way`, or any function of images in [0, 1]; several of these, one is
#: drawn for each image
Through = str | Callable[[Tensor], Tensor] | Sequence[str | Callable[[Tensor], Tensor]]

_AND_THEN = " > "
_BEYOND = 0.75  # a residue of 128/255 reaches .5 beyond [0, 1], images in [-1, 1] reach 1
_STRIDE = 1009  # between the seeds of one step and the next


@dataclass(frozen=True)
class _Step:
    change: Callable[..., Tensor]
    #: smallest and largest of each number, and what each word after the numbers may be
    numbers: tuple[tuple[float, float], ...] = ()
    words: tuple[tuple[str, ...], ...] = ()
    #: how many of all these must be given
    needed: int = 1


_FILTERS = tuple(dict.fromkeys(name for names in resizing.FILTERS.values() for name in names))
_STEPS = {
    "JPEG": _Step(codecs.jpeg, ((1, 95),), (codecs.SUBSAMPLINGS,)),
    "WebP": _Step(codecs.webp, ((1, 100),)),
    "AVIF": _Step(codecs.avif, ((1, 100),), (codecs.SUBSAMPLINGS,)),
    "resize": _Step(resizing.resize, ((0.05, 20),), (_FILTERS, tuple(resizing.FILTERS))),
    "letterbox": _Step(resizing.letterbox, ((0.05, 1), (0, 255))),
    "palette": _Step(resizing.palette, ((2, 256),)),
    "grey": _Step(resizing.grey, needed=0),
    "rounding": _Step(to_8_bit, needed=0),
}
_KINDS = (*_STEPS, *(kind for kind in BENIGN_KINDS if kind not in _STEPS))


@dataclass(frozen=True)
class Way:
    """
    A way by its name, a function of images in [0, 1]. Its steps are parted by ``" > "``:

    ============================= ===========================================================
    step                          what it does
    ============================= ===========================================================
    ``JPEG 95 4:2:0``             saved and read, quality 1 to 95; 4:4:4, 4:2:2, 4:2:0 (default)
    ``WebP 80``                   the same, quality 1 to 100
    ``AVIF 60 4:2:0``             the same, quality 1 to 100
    ``resize 0.5 bicubic pillow`` to half the size and back; libraries and their filters are in
                                  :data:`~pytorch_ood_viyog.images.resizing.FILTERS`
    ``letterbox 0.75 114``        the picture in 75 % of the height, bars of grey level 114
    ``palette 256``               so many colours, dithered
    ``grey``                      luminance
    ``rounding``                  rounded to 8 bit
    ============================= ===========================================================

    and every kind of :class:`~pytorch_ood_viyog.images.benign.BenignChange` with its strength.
    Codecs, palettes and Pillow's resizers need Pillow, the others their libraries (extra
    ``ways``).

    .. rubric:: Examples

    .. code-block:: python

        way = Way("resize 0.5 > JPEG 95 4:2:0")
        images = way(images)               # in [0, 1]
        detector = ViyogResidue(model, through="JPEG 95 4:2:0")
    """

    #: the steps
    name: str
    _steps: tuple[Callable[[Tensor, int], Tensor], ...] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """
        :raises TypeError: if the name is no text
        :raises ValueError: if a step is unknown, or what follows it out of range
        """
        if not isinstance(self.name, str):
            raise TypeError(f"The name of a way must be a text, got {type(self.name).__name__}.")
        steps = tuple(_parsed(text.strip()) for text in self.name.split(_AND_THEN))
        object.__setattr__(self, "_steps", steps)

    def __call__(self, x: Tensor, *, seed: int = 0) -> Tensor:
        """
        :param x: images in [0, 1], :math:`B \\times C \\times H \\times W`
        :param seed: seed of what is random in it
        :return: images as they come out of it
        :raises TypeError: if ``x`` is no floating point tensor
        :raises ValueError: if images are outside [0, 1], or have a number of channels that a step
            cannot take
        :raises ImportError: if a library is not installed
        """
        for number, step in enumerate(self._steps):
            x = step(x, seed + _STRIDE * number)
        return x

    def __reduce__(self) -> tuple[type["Way"], tuple[str]]:
        return Way, (self.name,)

    def __str__(self) -> str:
        return self.name


def apply_ways(through: Through, images: Tensor, *, seed: int = 0) -> Tensor:
    """
    Send images through a way; of several, one is drawn for each image.

    :param through: a way, or several
    :param images: in [0, 1], :math:`B \\times C \\times H \\times W`, or a residue beyond; clipped
        and rounded to 8 bit first, as an attacker or a camera has them
    :param seed: seed of the draw, and of what is random in a way; for as many images it draws the
        same
    :return: images as they come out, of the same type
    :raises TypeError: if a way gives no tensor
    :raises ValueError: if a way gives other sizes, another number of images, NaN, or values
        outside [0, 1], or if ``images`` are of another range
    :raises ImportError: if a library is not installed
    """
    ways = _each(checked_through(through))
    if images.numel() and not bool((images.amin() >= -_BEYOND) & (images.amax() <= 1 + _BEYOND)):
        check_images(images)
    images = to_8_bit(images)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(ways), images.shape[:1], generator=generator).to(images.device)
    found = images.clone()
    for number, way in enumerate(ways):
        own = images[drawn == number]
        if len(own):
            found[drawn == number] = _applied(way, own, seed)
    return found


def checked_through(through: Through) -> Through:
    """
    :param through: a way, or several
    :return: the same, ways as their names
    :raises TypeError: if it is none
    :raises ValueError: if a name is unknown, or there are no ways
    """
    if isinstance(through, str):
        return Way(through).name
    if callable(through):
        return through.name if isinstance(through, Way) else through
    if not isinstance(through, Sequence):
        raise TypeError(
            f"through must be the name of a way, a function of images in [0, 1], or several of "
            f"these, got {type(through).__name__}."
        )
    if not through:
        raise ValueError("through must hold at least one way, got none. None means no way.")
    ways = [checked_through(way) for way in through]
    if any(isinstance(way, tuple) for way in ways):
        raise TypeError("through must not hold sequences of sequences.")
    return tuple(ways)  # type: ignore[arg-type]


def require_ways(through: Through) -> None:
    """
    :param through: ways that are going to be used
    :raises ImportError: if the library of one that has a name is not installed
    """
    pixels = torch.linspace(0, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    for way in _each(through):
        if isinstance(way, str):
            apply_ways(way, pixels)


def _each(through: Through) -> list[str | Callable[[Tensor], Tensor]]:
    return [through] if isinstance(through, str) or callable(through) else list(through)


def _applied(way: str | Callable[[Tensor], Tensor], images: Tensor, seed: int) -> Tensor:
    found = Way(way)(images, seed=seed) if isinstance(way, str) else way(images)
    name = way if isinstance(way, str) else getattr(way, "__name__", repr(way))
    if not isinstance(found, Tensor):
        raise TypeError(f"Way {name!r} must give a tensor of images, got {type(found).__name__}.")
    if found.shape != images.shape:
        raise ValueError(
            f"Way {name!r} must give as many images of the same size, {tuple(images.shape)}, got "
            f"{tuple(found.shape)}."
        )
    found = found.to(images)
    low, high = (float(v) for v in torch.aminmax(found))
    if not -1e-6 <= low <= high <= 1 + 1e-6:  # also NaN, which compares as false
        raise ValueError(
            f"Way {name!r} must give images in [0, 1], got values from {low:.4g} to {high:.4g}."
        )
    return found.clamp(0, 1)


def _parsed(text: str) -> Callable[[Tensor, int], Tensor]:
    kind = max((k for k in _KINDS if f"{text} ".startswith(f"{k} ")), key=len, default=None)
    if kind is None:
        raise ValueError(f"Steps of a way are {', '.join(_KINDS)}, got {text!r}.")
    words = text[len(kind) :].split()
    if kind not in _STEPS:
        if len(words) != 1:
            raise ValueError(f"{kind} needs one number, its strength, got {text!r}.")
        change = BenignChange(kind, _number(text, words[0]))
        return lambda x, seed: change(x, seed=seed)
    step = _STEPS[kind]
    most = len(step.numbers) + len(step.words)
    if not step.needed <= len(words) <= most:
        raise ValueError(f"{kind} takes {step.needed} to {most} arguments, got {text!r}.")
    arguments: list[float | str] = []
    for word, (low, high) in zip(words, step.numbers, strict=False):
        number = _number(text, word)
        if not low <= number <= high:
            raise ValueError(f"{word} in {text!r} must be from {low:g} to {high:g}.")
        arguments.append(number)
    for word, known in zip(words[len(step.numbers) :], step.words, strict=False):
        if word not in known:
            raise ValueError(f"{word!r} in {text!r} must be one of {', '.join(known)}.")
        arguments.append(word)
    if kind == "resize":
        resizing.check_filter(*map(str, arguments[1:]))
    return lambda x, _: step.change(x, *arguments)


def _number(text: str, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word!r} in {text!r} must be a number.") from None
