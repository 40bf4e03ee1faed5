"""
A setting of a detector that is checked whenever it is set.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Checked"]

_T = TypeVar("_T")


class Checked(Generic[_T]):
    """A setting that is checked whenever it is set, also by ``set_hyperparameters``."""

    def __init__(self, check: Callable[[str, Any], _T], *, concludes: bool = False):
        """
        :param check: takes name and value, and gives the value or raises
        :param concludes: whether the state of a fit depends on it, and is concluded anew
        """
        self.check, self.concludes, self.name = check, concludes, ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, detector: object | None, owner: type) -> _T:
        if detector is None:  # the class is asked, as documentation does
            return self  # type: ignore[return-value]
        if self.name not in detector.__dict__:
            raise RuntimeError(
                f"This {type(detector).__name__} has no {self.name}: it was pickled by another "
                f"version of the package. Fit it again."
            )
        value: _T = detector.__dict__[self.name]
        return value

    def __set__(self, detector: object, value: Any) -> None:
        before, own = detector.__dict__.get(self.name), self.check(self.name, value)
        detector.__dict__[self.name] = own
        if self.concludes and own != before:  # Detector.to() sets everything as it is
            detector.__dict__["_state"] = None
