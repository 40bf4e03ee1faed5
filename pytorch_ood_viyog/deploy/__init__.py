"""
Fitted detectors as plain modules, for ``torch.export``, ONNX and ``torch.compile``, and with their
model, or as a whole Triage, in an ONNX file. Imports ``triage`` and the rooms below it.
"""

from .onnx_file import export_onnx
from .scored_model import ScoredModel, with_score
from .scorers import MapsToScores, maps_to_scores

__all__ = ["MapsToScores", "ScoredModel", "export_onnx", "maps_to_scores", "with_score"]
