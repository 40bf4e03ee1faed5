"""The detectors that the shared tests run on. A new detector joins by one line here."""

from collections.abc import Callable
from typing import Any

from pytorch_ood_viyog import Viyog, ViyogTV

#: constructors by name, called with (model, *, layer=None)
DETECTORS: dict[str, Callable[..., Any]] = {
    "Viyog": Viyog,
    "ViyogTV": ViyogTV,
}

#: how far scores may be apart that differ by rounding alone; relative and absolute
TOLERANCES: dict[str, tuple[float, float]] = {}
DEFAULT_TOLERANCE = (1e-4, 1e-6)
