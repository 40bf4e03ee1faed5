"""
A contract for pytorch-ood detectors, for pytest: subclass :class:`DetectorContract`.
``declarations`` says what a subclass can declare; ``expect`` and ``observe`` are what checks are
made of; ``fitting``, ``scoring``, ``manners``, ``forms`` and ``tuning`` hold them. It knows
nothing of Viyog and imports no other room.
"""

from .contract import DetectorContract
from .expect import ContractError

__all__ = ["ContractError", "DetectorContract"]
