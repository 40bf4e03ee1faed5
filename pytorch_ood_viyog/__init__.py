"""
Detectors for pytorch-ood that tell adversarial (ADV) from out-of-distribution (OOD) inputs by the
raw output of a model's first convolutional layer. Scores are larger for ADV.

The rooms, from the ground up: ``layer``, ``images`` and ``evaluation`` import no other; then
``fitting``, ``residue``, ``detectors``, ``looks``, ``pipeline``, ``triage`` and ``deploy``, and
``benchmark``. ``testing``, a contract for anybody's detectors, stands by itself.
"""

from .deploy import export_onnx, with_score
from .detectors import SameWay, Viyog, ViyogIntent, ViyogResidue, ViyogTV
from .evaluation import ViyogMetrics, viyog_metrics
from .images import Way, WayWarning
from .looks import SecondLook
from .pipeline import SharedForward
from .triage import AdversarialOdds, Triage, Verdict

# in the order of README
__all__ = [  # noqa: RUF022
    "ViyogResidue",
    "Triage",
    "Verdict",
    "Viyog",
    "ViyogTV",
    "AdversarialOdds",
    "ViyogIntent",
    "SecondLook",
    "SharedForward",
    "viyog_metrics",
    "ViyogMetrics",
    "Way",
    "SameWay",
    "WayWarning",
    "export_onnx",
    "with_score",
]
__version__ = "0.1.0"
