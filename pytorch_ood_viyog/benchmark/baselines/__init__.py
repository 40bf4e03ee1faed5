"""
What the benchmark compares with: pytorch-ood's detectors, built for a classifier whose code is not
known, taken apart by ``classifier_parts``; and FeatureSqueezing, which asks the model again about
squeezed images. Imports ``layer``, ``images`` and ``looks``.
"""

from .build import BASELINES, baseline_detectors
from .feature_squeezing import FeatureSqueezing

__all__ = [
    "BASELINES",
    "FeatureSqueezing",
    "baseline_detectors",
]
