"""
What an image can be, made from ID images alone: NOISY (``benign``), ADV (``bounded``,
``minimal``, ``smooth``) and OOD (``foreign``, ``remade``), one file a population; ``simulated``
gives all of them. Usable alone, to train other rules or to augment. Imports ``images``, ``layer``
and below.
"""

from .benign import benign
from .bounded import bounded
from .classifier import Classifier, NoGradientsError
from .foreign import FOREIGN, foreign
from .minimal import minimal
from .remade import REMADE, remade
from .simulated import ATTACKS, Population, simulated
from .smooth import smooth
from .verdict import Verdict

__all__ = [
    "ATTACKS",
    "FOREIGN",
    "REMADE",
    "Classifier",
    "NoGradientsError",
    "Population",
    "Verdict",
    "benign",
    "bounded",
    "foreign",
    "minimal",
    "remade",
    "simulated",
    "smooth",
]
