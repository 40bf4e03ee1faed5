"""
How a first-layer detector learns and what it then holds: one pass over ID data, statistics of
constant size, merging of several fits and processes, saved states. Imports ``layer``.
"""

from .saving import STATE_VERSION
from .streaming import FittedOnMaps

__all__ = ["STATE_VERSION", "FittedOnMaps"]
