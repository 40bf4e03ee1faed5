"""
The mathematics of ViyogResidue as functions of tensors, from the directions that natural images
leave empty to the three hypotheses. Read it in this order: ``directions``, ``windows``,
``smooth``, ``reader``, ``features``, ``hypotheses``, ``contrast``, ``conclusion`` (all of a fit),
``evidence`` (features to scores). Imports ``fitting`` and ``layer``.
"""

from .conclusion import conclude
from .contrast import fisher_contrast
from .directions import quiet_directions
from .evidence import Settings
from .hypotheses import log_likelihoods
from .reader import Reader

__all__ = [
    "Reader",
    "Settings",
    "conclude",
    "fisher_contrast",
    "log_likelihoods",
    "quiet_directions",
]
