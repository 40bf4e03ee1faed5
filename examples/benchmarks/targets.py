"""What must be reached, what was, and how a table shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from pandas import DataFrame

__all__ = ["Target", "Value"]


@dataclass(frozen=True)
class Value:
    """
    :param number: what was measured
    :param where: of which pair or image, where that is one of many
    """

    number: float
    where: str = ""


@dataclass(frozen=True)
class Target:
    """
    :param name: what is asked for
    :param read: rows of a detector or configuration -> what was reached; ``None`` without rows
    :param low: at least this
    :param high: at most this
    """

    name: str
    read: Callable[[DataFrame], Value | None]
    low: float = -inf
    high: float = inf

    def met(self, value: Value) -> bool:
        """:return: whether the value reaches the target"""
        return self.low <= value.number <= self.high

    def cell(self, value: Value | None) -> str:
        """:return: the value, bold where it misses the target, empty where there is none"""
        if value is None:
            return ""
        text = f"{value.number:.3f}"
        text = text if self.met(value) else f"**{text}**"
        return f"{text} ({value.where})" if value.where else text
