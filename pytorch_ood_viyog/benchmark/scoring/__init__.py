"""
Scores of many detectors for many images, in order and whole, kept as they come; and how often the
model is right on clean images, which says whether they mean anything. Imports ``evaluation``,
``layer``, ``pipeline`` and the attacks' keys.
"""

from .clean import CleanAccuracy, clean_accuracy
from .scorer import Scorer
from .store import ScoreStore, score_stores

__all__ = ["CleanAccuracy", "ScoreStore", "Scorer", "clean_accuracy", "score_stores"]
