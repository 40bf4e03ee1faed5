"""
What a page is made of. All texts are plain: what is HTML in them is shown, not obeyed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["KEPT", "Card", "Picture", "Reading", "Section", "Table", "worst_first"]

#: samples of a class to look at: so many mistakes, and as many right verdicts
KEPT = 4


@dataclass(frozen=True)
class Picture:
    """An embedded picture."""

    #: the file as a ``data:`` address
    source: str
    #: width and height in pixels
    size: tuple[int, int]
    #: what it shows, for who does not see it
    alt: str
    #: text below
    caption: str = ""
    #: whether its pixels are to be seen as squares when it is enlarged
    pixelated: bool = False


@dataclass(frozen=True)
class Table:
    """Names of the columns, and rows of cells as they are shown; numbers sort as numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    #: heading
    caption: str = ""
    #: whether the last column sums up the others
    total: bool = False


@dataclass(frozen=True)
class Reading:
    """What one signal says of a sample: an alarm, where it raises one and is above the limit."""

    name: str
    score: float
    limit: float | None = None
    #: share of ID samples that score as high
    p_value: float | None = None
    raises: bool = False

    @property
    def alarm(self) -> bool:
        """Whether it raised an alarm."""
        return self.raises and self.limit is not None and self.score > self.limit


@dataclass(frozen=True)
class Card:
    """A sample with what it was taken for, whether that is right, and what was seen in it."""

    title: str
    verdict: str
    right: bool
    pictures: tuple[Picture, ...] = ()
    readings: tuple[Reading, ...] = ()
    #: anything else, in a sentence
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading of its own; a listing keeps its lines."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Picture, ...] = ()
    cards: tuple[Card, ...] = ()
    listing: str = ""


def worst_first(samples: Iterable[Any]) -> list[Any]:
    """
    :param samples: of one class, each with ``right`` and a ``severity``; also those that were
        chosen of others before
    :return: the samples to look at: the four worst mistakes, then the first four that are right
    """
    samples = list(samples)
    wrong = sorted((s for s in samples if not s.right), key=lambda s: -s.severity)
    return wrong[:KEPT] + [s for s in samples if s.right][:KEPT]
