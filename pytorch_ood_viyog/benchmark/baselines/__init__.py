"""
What the benchmark compares with: pytorch-ood's detectors and LayerAdaptive, built for a classifier
whose code is not known, taken apart by ``classifier_parts``; and two that ask the model again, of
squeezed and of noisy images. Imports ``layer``, ``images`` and ``looks``.
"""

from .build import BASELINES, baseline_detectors
from .feature_squeezing import FeatureSqueezing
from .layer_adaptive import LayerAdaptive
from .noise_stability import NoiseStability

__all__ = [
    "BASELINES",
    "FeatureSqueezing",
    "LayerAdaptive",
    "NoiseStability",
    "baseline_detectors",
]
