"""
A contract for pytorch-ood detectors, for pytest: subclass :class:`DetectorContract`.
"""

from .contract import DetectorContract
from .expect import ContractError

__all__ = ["ContractError", "DetectorContract"]
