"""The detectors that the shared tests run on. A new detector joins by one line here."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV

#: constructors by name, called with (model, *, layer=None)
DETECTORS: dict[str, Callable[..., Any]] = {
    "Viyog": Viyog,
    "ViyogTV": ViyogTV,
    # inputs and maps alone give the same fit only where the input's range is given
    "ViyogResidue": partial(ViyogResidue, input_range=8.0),
}

#: how far scores may be apart that differ by rounding alone; relative and absolute
TOLERANCES: dict[str, tuple[float, float]] = {
    "ViyogResidue": (1e-3, 1e-2),  # in standard deviations of ID
}
DEFAULT_TOLERANCE = (1e-4, 1e-6)
