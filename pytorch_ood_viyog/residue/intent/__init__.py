"""
Is a residue attack-shaped or benign? ``whiteness`` reads more features from the same responses;
``sample`` keeps ID inputs, ``shapes`` gives residues as a gradient through the layer would
(``layer_gradient``: the model's own), ``simulation`` puts both and benign changes on ID inputs,
``behind`` sends all of it through what lies before the model, ``ratio`` weighs what it has seen,
``conclusion`` is all of the fit, ``evidence`` says what a reading weighs.
"""

from .conclusion import conclude_intent
from .ratio import IntentRatio, fit_ratio
from .simulation import simulate
from .whiteness import whiteness

__all__ = ["IntentRatio", "conclude_intent", "fit_ratio", "simulate", "whiteness"]
