"""
What is attacked: a classifier alone, with a detector and its threshold, with a triage; and the
gradients of what they make of an image. Imports ``detectors``, ``looks``, ``triage``, ``layer``.
"""

from .gradients import WithGradients
from .preparing import ALONE, Given, model_of, named_systems, systems_of
from .system import ClassifierAlone, DetectorSystem, System, Watch, gradients_to_input
from .with_triage import TriageSystem

__all__ = [
    "ALONE",
    "ClassifierAlone",
    "DetectorSystem",
    "Given",
    "System",
    "TriageSystem",
    "Watch",
    "WithGradients",
    "gradients_to_input",
    "model_of",
    "named_systems",
    "systems_of",
]
