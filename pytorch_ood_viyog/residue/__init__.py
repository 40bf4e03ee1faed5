"""
The mathematics of ViyogResidue as functions of tensors, from the directions that natural images
leave empty to the three hypotheses. Read it in this order: ``windows``, ``features``, ``reader``,
``directions``, ``hypotheses``, ``random_residues``, ``conclusion`` (all of a fit),
``evidence`` (features to scores). ``regions`` reads parts of an image. Imports ``fitting`` and
``layer``.
"""

from .conclusion import conclude
from .directions import quiet_directions
from .evidence import Settings
from .hypotheses import fisher_contrast, log_likelihoods
from .reader import Reader

__all__ = [
    "Reader",
    "Settings",
    "conclude",
    "fisher_contrast",
    "log_likelihoods",
    "quiet_directions",
]
