"""
What the benchmark compares with: pytorch-ood's detectors, built for a classifier whose code is not
known, taken apart by ``classifier_parts``. Imports ``layer``.
"""

from .build import BASELINES, baseline_detectors

__all__ = [
    "BASELINES",
    "baseline_detectors",
]
