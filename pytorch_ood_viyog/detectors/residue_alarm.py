"""
ResidueAlarm: is there a residue on top of an ID image, an alarm for routers.
"""

from torch import Tensor

from .residue_view import ResidueView

__all__ = ["ResidueAlarm"]


class ResidueAlarm(ResidueView):
    """
    The contrast of ID and ADV alone, from the features :math:`f` of a
    :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue`:

    .. math:: s(x) = w^\\top (f(x) - \\mu_{ID})

    with :math:`w` Fisher's linear discriminant of ID samples against the same samples with the
    residues of all strengths, see :func:`~pytorch_ood_viyog.residue.contrast.fisher_contrast`.
    Both come from ID data: the residues are random signs that the first layer, which is linear,
    adds to.

    The score of :class:`ViyogResidue` also weighs whether an input is like anything known, to
    tell ADV from OOD. That costs recall where ID images differ much in their noise floor; this
    contrast finds more of the weak attacks at the same rate of false alarms, and OOD inputs too.
    :class:`~pytorch_ood_viyog.triage.triage.Triage` raises alarms by this one and decides ADV or
    OOD by the other.

    **Sign.** Larger for ADV than for ID, in units of the standard deviation within the groups.
    OOD inputs can have any score: use :class:`ViyogResidue` to tell these from ADV.

    .. rubric:: Examples

    .. code-block:: python

        residue = ViyogResidue(model)
        alarm = ResidueAlarm(residue).fit(train_loader)
        scores = alarm(images)
    """

    def _view(self, features: Tensor, state: dict[str, Tensor]) -> Tensor:
        return (features - state["means"][0]) @ state["contrast"]
