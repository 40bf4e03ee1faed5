"""
Fitted detectors as plain modules, for ``torch.export``, ONNX and ``torch.compile``. Imports
``detectors`` and the rooms below them.
"""

from .scored_model import MapsToScores, ScoredModel, maps_to_scores, with_score

__all__ = ["MapsToScores", "ScoredModel", "maps_to_scores", "with_score"]
