"""
The detector that asks the model again and compares its answers, :class:`SecondLook`, and the base
of such detectors. Read ``answers`` (two logit vectors), ``surprise`` (among ID samples) and
``comparison`` first, then ``purification``, ``choice`` and the detector. Imports ``detectors``,
``residue``, ``fitting``, ``images`` and ``layer``.
"""

from .answers import lost_odds, softmax_distance
from .choice import Choice
from .comparison import Comparison
from .purification import PURIFIERS, PurifierError
from .second_look import SecondLook
from .second_pass import SecondPass
from .surprise import surprise

__all__ = [
    "PURIFIERS",
    "Choice",
    "Comparison",
    "PurifierError",
    "SecondLook",
    "SecondPass",
    "lost_odds",
    "softmax_distance",
    "surprise",
]
