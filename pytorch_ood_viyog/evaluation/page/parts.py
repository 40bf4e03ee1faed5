"""
What a page is made of. All texts are plain: what is HTML in them is shown, not obeyed.
"""

from dataclasses import dataclass

__all__ = ["Card", "Page", "Picture", "Reading", "Section", "Table"]


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
    """Cells as they are shown; numbers among them sort as numbers."""

    #: names of the columns
    head: tuple[str, ...]
    #: cells of each row, as many as there are columns
    rows: tuple[tuple[str, ...], ...]
    #: heading
    caption: str = ""
    #: whether the last column sums up the others
    total: bool = False


@dataclass(frozen=True)
class Reading:
    """What one signal says of a sample."""

    #: name of the detector or signal
    name: str
    #: its score
    score: float
    #: score that it takes to count, ``None`` where there is none
    limit: float | None = None
    #: share of ID samples that score as high
    p_value: float | None = None
    #: whether it raises an alarm above that
    raises: bool = False

    @property
    def alarm(self) -> bool:
        """Whether it raised an alarm."""
        return self.raises and self.limit is not None and self.score > self.limit


@dataclass(frozen=True)
class Card:
    """A sample with what was made of it."""

    #: which sample it is
    title: str
    #: what it was taken for
    verdict: str
    #: whether that is right
    right: bool
    #: the sample, and what was seen in it
    pictures: tuple[Picture, ...] = ()
    #: scores
    readings: tuple[Reading, ...] = ()
    #: anything else, in a sentence
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading of its own."""

    #: heading
    title: str
    #: paragraphs
    text: tuple[str, ...] = ()
    #: tables
    tables: tuple[Table, ...] = ()
    #: figures
    figures: tuple[Picture, ...] = ()
    #: samples
    cards: tuple[Card, ...] = ()
    #: text that keeps its lines
    listing: str = ""


@dataclass(frozen=True)
class Page:
    """A page."""

    #: heading
    title: str
    #: what it says, in a few sentences
    summary: tuple[str, ...]
    #: its parts
    sections: tuple[Section, ...]
