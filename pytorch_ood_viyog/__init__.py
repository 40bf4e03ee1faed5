"""
Detectors for pytorch-ood that tell adversarial (ADV) from out-of-distribution (OOD) inputs by the
raw output of a model's first convolutional layer. Scores are larger for ADV.
"""

from .deploy import with_score
from .metrics import ViyogMetrics, viyog_metrics
from .residue import ViyogResidue
from .tv import ViyogTV
from .viyog import Viyog

__all__ = ["Viyog", "ViyogMetrics", "ViyogResidue", "ViyogTV", "viyog_metrics", "with_score"]
__version__ = "0.1.0"
