"""
NoiseFloor: how strong the residue is, as a reading of its own.
"""

from torch import Tensor

from ..residue.evidence import noise_floor
from .residue_view import ResidueView

__all__ = ["NoiseFloor"]


class NoiseFloor(ResidueView):
    """
    The strength of the residue as :meth:`ViyogResidue.noise_floor` estimates it, as a fraction of
    the input's range.

    **Sign.** Larger for more residue, whatever left it. Half of ID images have exactly 0, so it
    is evidence beside others, and no detector by itself.

    .. rubric:: Examples

    .. code-block:: python

        floor = NoiseFloor(ViyogResidue(model)).fit(train_loader)
        strengths = floor(images) * 255      # in grey levels
    """

    def _view(self, features: Tensor, state: dict[str, Tensor]) -> Tensor:
        return noise_floor(features, state)
