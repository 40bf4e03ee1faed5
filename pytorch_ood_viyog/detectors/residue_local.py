"""
ViyogResidueLocal: the noise floor of an image and of its parts.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ..fitting.fitted import Statistics
from ..layer.layer_call import LayerCall
from ..layer.precision import without_autocast
from ..residue.local import conclude_local, local_score, region_evidence
from ..residue.reader import Reading
from .residue import ViyogResidue

__all__ = ["ViyogResidueLocal"]


class ViyogResidueLocal(ViyogResidue):
    """
    :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue` that also finds a residue which
    fills a part of the image only: a patch, an attack behind a mask, a pasted region.

    1. *Regions*. The image is divided into 8 × 8 overlapping regions (fewer on maps of less than
       16 positions). Features of a region are the logarithms of the geometric and the arithmetic
       mean of the energy in bands of quiet directions, see
       :func:`~pytorch_ood_viyog.residue.local.regions.region_features`: the noise floor, and how
       much texture is beside it.
    2. *Evidence of a region*: Fisher's contrast of ID regions and the same with random signs of
       each strength in ``eps``, so that a region is compared with ID regions of its texture.
    3. *Confined residues*. For ID samples also the maps of evidence with residues that fill a box
       at a random place, with sides of a quarter to three quarters of the image's. ID and
       confined residues are Gaussian in seven quantiles :math:`q` of the map, its maximum among
       them, with one shrunk covariance.

    .. math::
        s(x) = \\frac{\\mathrm{arsinh} \\max \\left( o(f),\\
        \\ln \\frac{p(q | confined)}{p(q | ID)} \\right) - m}{d}

    with the log-odds :math:`o`, the mean :math:`m` and the deviation :math:`d` of
    :class:`ViyogResidue`.

    **Sign.** As :class:`ViyogResidue`, whose score is never larger. Unlike there, ID scores have
    a mean above 0.

    **When to use.** Where attacks may be confined, which :class:`ViyogResidue` calls OOD: most of
    such an image is clean, and all of it looks like neither ID nor ID with a residue. It costs
    little more, but on small images fewer of the weak attacks on all of the image are found. It
    needs maps of 32 positions or more along an axis; where patches of 8 × 8 pixels are read, it
    finds what is far stronger than ``eps``, but no residue in a part.

    .. rubric:: Examples

    .. code-block:: python

        detector = ViyogResidueLocal(model).fit(train_loader)
        scores = detector(images)
        where = detector.residue_map(images)   # (B, 8, 8), about 4/255 in the attacked part

    :see: new in this package
    """

    _saved_shapes: ClassVar[dict[str, str]] = ViyogResidue._saved_shapes | {
        "region_mean": "G",
        "region_contrast": "G",
        "local_means": "N 7",
        "local_whitening": "7 7",
    }

    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        if self.through is not None:
            raise ValueError(
                "ViyogResidueLocal knows no way between attacker and model: through must be None. "
                "Use ViyogResidue, which does."
            )
        return super()._measure(maps, inputs)

    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        state = super()._conclude(statistics)
        with without_autocast(statistics["sample"].device):
            return state | conclude_local(statistics, state, self._settings)

    def _residue_score(self, reading: Reading, state: dict[str, Tensor]) -> Tensor:
        return local_score(reading, state, self._settings)

    @torch.no_grad()
    def evidence_map(self, x: Tensor) -> Tensor:
        """
        Where the residue is, if there is one: more sharply than :meth:`residue_map`, as texture
        is discounted.

        :param x: batch of model inputs, as for :meth:`predict`
        :return: contrast of each region with ID regions of its texture, in standard deviations,
            0 on average over ID regions, :math:`B \\times *H'`
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        return self._read_at_layer(
            x,
            lambda call, state: region_evidence(self._read_call(call, state), state),
            LayerCall.grouped,
        )
