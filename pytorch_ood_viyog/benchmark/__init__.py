"""
Upper floor: a benchmark of detectors on a classifier of your own, against pytorch-ood's and under
attack, and what it costs an attacker to evade one; ``python -m pytorch_ood_viyog.benchmark`` runs
it from the command line. Imports any room but ``deploy`` and ``testing``.
"""

from .attacks import AdversarialExamples, Attack, AttackSize, craft, named_attack
from .baselines import BASELINES, baseline_detectors
from .benchmark import AdversarialBenchmark
from .evasion import Evasion, evasion

__all__ = [
    "BASELINES",
    "AdversarialBenchmark",
    "AdversarialExamples",
    "Attack",
    "AttackSize",
    "Evasion",
    "baseline_detectors",
    "craft",
    "evasion",
    "named_attack",
]
