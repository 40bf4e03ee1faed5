"""
The detector that asks the model again and compares its answers, :class:`SecondLook`. Read
``answers`` (two logit vectors, and how surprising they are) and ``comparison`` first, then
``purification``, ``choice``, ``fitted_look`` and the detector; ``logits`` asks a model. Imports
``detectors``, ``residue``, ``fitting``, ``images`` and ``layer``.
"""

from .answers import lost_odds, softmax_distance
from .comparison import Comparison
from .purification import PURIFIERS, PurifierError
from .second_look import SecondLook

__all__ = [
    "PURIFIERS",
    "Comparison",
    "PurifierError",
    "SecondLook",
    "lost_odds",
    "softmax_distance",
]
