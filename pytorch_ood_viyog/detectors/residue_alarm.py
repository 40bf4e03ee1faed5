"""
ResidueAlarm: is there a residue on top of an ID image, a contrast of its own.
"""

from typing import Literal

import torch
from torch import Tensor

from ..residue.features import unreadable
from .residue import ViyogResidue
from .residue_view import ResidueView

__all__ = ["ResidueAlarm"]

# state that holds the contrast with each kind of residue
_CONTRASTS = {"white": "contrast", "smooth": "smooth_contrast"}


class ResidueAlarm(ResidueView):
    """
    The contrast of ID and ADV alone, from the features :math:`f` of a
    :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue`:

    .. math:: s(x) = w^\\top (f(x) - \\mu_{ID})

    with :math:`w` Fisher's linear discriminant of ID samples against the same samples with the
    residues of all strengths, see :func:`~pytorch_ood_viyog.residue.hypotheses.fisher_contrast`.
    Both come from ID data: the residues are random signs that the first layer, which is linear,
    adds to.

    The score of :class:`ViyogResidue` also weighs whether an input is like anything known, to
    tell ADV from OOD. That costs recall where ID images differ much in their noise floor; this
    contrast finds more of the weak attacks at the same rate of false alarms, and OOD inputs too.
    :class:`~pytorch_ood_viyog.triage.triage.Triage` weighs both.

    **Smooth residues.** An attacker who blurs the perturbation in every step leaves the finest
    detail alone, where this alarm and :class:`ViyogResidue` look. The same features, contrasted
    with smooth residues (:func:`~pytorch_ood_viyog.residue.random_residues.smooth_signs`, 1.5
    positions), see it; they do not see white residues.

    An image that is constant nearly everywhere raises no alarm: nothing can be read of it, and
    :class:`ViyogResidue` calls it OOD.

    **Sign.** Larger for ADV than for ID, in units of the standard deviation within the groups.
    OOD inputs can have any score: use :class:`ViyogResidue` to tell these from ADV.

    .. rubric:: Examples

    .. code-block:: python

        residue = ViyogResidue(model)
        alarm = ResidueAlarm(residue).fit(train_loader)
        scores = alarm(images)
    """

    def __init__(self, residue: ViyogResidue, *, residues: Literal["white", "smooth"] = "white"):
        """
        :param residue: the detector whose features are read
        :param residues: kind of the residues that ID is contrasted with
        :raises TypeError: if ``residue`` is no :class:`ViyogResidue`
        :raises ValueError: if ``residues`` is no known kind
        """
        super().__init__(residue)
        if residues not in _CONTRASTS:
            raise ValueError(f"residues must be one of {list(_CONTRASTS)}, got {residues!r}.")
        self.residues = residues

    def _view(self, features: Tensor, state: dict[str, Tensor]) -> Tensor:
        scores = (features - state["means"][0]) @ state[_CONTRASTS[self.residues]]
        return torch.where(unreadable(features), scores.clamp_max(0), scores)
