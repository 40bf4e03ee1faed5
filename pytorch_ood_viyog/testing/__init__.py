"""
A contract for pytorch-ood detectors, for pytest: subclass :class:`DetectorContract`. ``contract``
puts the groups of checks together, ``declarations`` says what a subclass can declare; ``expect``,
``observe`` and ``data`` are what the checks are made of, all other modules hold the checks, by
what they are about. It knows nothing of Viyog and imports no other room.
"""

from .contract import DetectorContract
from .expect import ContractError

__all__ = ["ContractError", "DetectorContract"]
