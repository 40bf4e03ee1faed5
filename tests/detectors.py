"""The detectors that the shared tests run on. A new detector joins by one line here."""

from collections.abc import Callable
from typing import Any

from pytorch_ood_viyog import Viyog, ViyogTV

#: constructors by name, called with (model, *, layer=None)
DETECTORS: dict[str, Callable[..., Any]] = {
    "Viyog": Viyog,
    "ViyogTV": ViyogTV,
}
