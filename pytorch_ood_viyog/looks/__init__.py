"""
Detectors that ask the model again and compare its answers: without the residue
(:class:`SecondLook`), to squeezed inputs, to noisy inputs. Read ``answers`` (two logit vectors),
``surprise`` (among ID samples) and ``comparison`` first, then ``purification``, ``choice`` and the
detectors. Imports ``detectors``, ``residue``, ``fitting``, ``images`` and ``layer``.
"""

from .answers import lost_odds, softmax_distance
from .choice import Choice
from .comparison import Comparison
from .feature_squeezing import FeatureSqueezing
from .noise_stability import NoiseStability
from .purification import PURIFIERS, PurifierError
from .second_look import SecondLook
from .second_pass import SecondPass
from .surprise import surprise

__all__ = [
    "PURIFIERS",
    "Choice",
    "Comparison",
    "FeatureSqueezing",
    "NoiseStability",
    "PurifierError",
    "SecondLook",
    "SecondPass",
    "lost_odds",
    "softmax_distance",
    "surprise",
]
