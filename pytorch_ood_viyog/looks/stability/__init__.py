"""
Second looks without a fit: does the answer stay when the input changes in a way that does not
change what it shows? Noise (a baseline), and shifts by a few pixels.
"""

from .noise_stability import NoiseStability
from .shift_stability import ShiftStability

__all__ = ["NoiseStability", "ShiftStability"]
