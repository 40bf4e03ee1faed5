"""
Is a residue attack-shaped or benign? ``whiteness`` reads more features from the same responses;
``sample`` keeps ID inputs, ``shapes`` gives residues as a gradient through the layer would,
``simulation`` puts both and benign changes on ID inputs, ``random_changes`` one benign change on
each, ``behind`` sends all of it through what lies before the model, ``ratio`` weighs what it has
seen, ``evidence`` says what a reading weighs.
"""

from .ratio import IntentRatio, fit_ratio
from .simulation import simulate
from .whiteness import whiteness

__all__ = ["IntentRatio", "fit_ratio", "simulate", "whiteness"]
