"""
Verdicts: detectors in one pass, thresholds calibrated on ID data, what is behind a verdict and how
often it is right. ``lda``, the supervised variant, is imported by its own name, as scikit-learn
takes long. Imports ``pipeline``, ``looks``, ``detectors``, ``evaluation``, ``fitting``,
``images`` and ``layer``.
"""

from .calibration import Calibration
from .explanation import Explanation
from .fused import Fused
from .report import TriageReport
from .triage import Triage
from .verdict import Verdict

__all__ = ["Calibration", "Explanation", "Fused", "Triage", "TriageReport", "Verdict"]
