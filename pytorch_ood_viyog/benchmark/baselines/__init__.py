"""
What the benchmark compares with: pytorch-ood's detectors and LayerAdaptive, built for a classifier
whose code is not known, taken apart by ``classifier_parts``. Imports ``layer``.
"""

from .build import BASELINES, baseline_detectors
from .layer_adaptive import LayerAdaptive

__all__ = ["BASELINES", "LayerAdaptive", "baseline_detectors"]
