"""
Many detectors, one forward pass, and their saved states. Imports ``looks`` and the rooms below it.
"""

from .shared_forward import SharedForward

__all__ = ["SharedForward"]
