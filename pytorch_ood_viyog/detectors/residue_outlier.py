"""
ResidueOutlier: how unlike in-distribution data the first layer is, an OOD score.
"""

from torch import Tensor

from ..residue.evidence import hypotheses
from .residue_view import ResidueView

__all__ = ["ResidueOutlier"]


class ResidueOutlier(ResidueView):
    """
    The ID hypothesis of a :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue`, read as an
    OOD score:

    .. math:: s(x) = -\\log p(f(x) \\mid ID)

    up to a constant, with :math:`f` the features of the noise floor. Other resolutions, cameras,
    compressions and scenes have another floor. It knows nothing of what an image shows, which is
    what detectors on logits and features know: more evidence for a
    :class:`~pytorch_ood_viyog.triage.triage.Triage` beside these.

    **Sign.** Unlike the other first-layer detectors, larger scores speak for *any* anomaly, OOD
    or ADV, as usual in pytorch-ood.

    It shares model, layer and fitted state with the other detector and needs no fit of its own:
    fitting either of them fits both.

    .. rubric:: Examples

    .. code-block:: python

        residue = ViyogResidue(model)
        evidence = {"ViyogResidue": residue, "first layer": ResidueOutlier(residue)}
        triage = Triage(model, evidence=evidence).fit(train_loader, calibration_loader)
    """

    def _view(self, features: Tensor, state: dict[str, Tensor]) -> Tensor:
        return -hypotheses(features, state, self.residue._settings)[:, 0]
