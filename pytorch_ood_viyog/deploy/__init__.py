"""
Fitted detectors as plain modules, for ``torch.export``, ONNX and ``torch.compile``. Imports
``detectors`` and the rooms below them.
"""

from .scored_model import ScoredModel, with_score
from .scorers import MapsToScores, maps_to_scores

__all__ = ["MapsToScores", "ScoredModel", "maps_to_scores", "with_score"]
