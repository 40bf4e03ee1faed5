"""
Fitted detectors as plain modules, for ``torch.export``, ONNX and ``torch.compile``, and with their
model, or as a second look or a whole Triage, in an ONNX file. Imports ``triage`` and the rooms
below it.
"""

from .onnx_file import export_onnx
from .score_nodes import score_nodes
from .scored_model import with_score
from .scorers import maps_to_scores
from .second_look_graph import with_second_look

__all__ = ["export_onnx", "maps_to_scores", "score_nodes", "with_score", "with_second_look"]
