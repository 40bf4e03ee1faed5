"""
ResidueOutlier: how unlike in-distribution data the first layer is, an OOD score for gates.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from typing_extensions import Self

from .checks import check_maps
from .detector import FirstLayerDetector, Statistics
from .first_layer import LayerCall
from .residue import ViyogResidue
from .residue_model import hypotheses
from .viyog import PAPER

__all__ = ["ResidueOutlier"]


class ResidueOutlier(FirstLayerDetector):
    """
    The ID hypothesis of a :class:`~pytorch_ood_viyog.residue.ViyogResidue`, read as an OOD score:

    .. math:: s(x) = -\\log p(f(x) \\mid ID)

    up to a constant, with :math:`f` the features of the noise floor. Other resolutions, cameras,
    compressions and scenes have another floor. It knows nothing of what an image shows, which is
    what detectors on logits and features know: a gate for a
    :class:`~pytorch_ood_viyog.triage.Triage` that makes up for what these miss.

    **Sign.** Unlike the other first-layer detectors, larger scores speak for *any* anomaly, OOD
    or ADV, as usual in pytorch-ood.

    It shares model, layer and fitted state with the other detector and needs no fit of its own:
    fitting either of them fits both.

    .. rubric:: Examples

    .. code-block:: python

        router = ViyogResidue(model)
        gates = {"energy": EnergyBased(None), "first layer": ResidueOutlier(router)}
        triage = Triage(gates, router).fit(train_loader, calibration_loader)
    """

    info = DetectorInfo(paper=PAPER, tasks={Task.CLASSIFICATION}, ai_coded=True)
    requires_fit = False
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {}

    def __init__(self, residue: ViyogResidue):
        """
        :param residue: the detector whose ID hypothesis is read
        :raises TypeError: if it is no :class:`ViyogResidue`
        """
        if not isinstance(residue, ViyogResidue):
            raise TypeError(f"residue must be a ViyogResidue, got {type(residue).__name__}.")
        super().__init__(residue.model, layer=residue.layer)
        self.residue = residue

    def fit(self, data_loader: Iterable[Any], *, progress: bool = True) -> Self:
        """
        Fit the other detector, which this one reads.

        :param data_loader: as for :meth:`ViyogResidue.fit`
        :param progress: show a progress bar where the pass takes more than a second
        :return: the fitted detector
        :raises ValueError: as :meth:`ViyogResidue.fit`
        """
        self.residue.fit(data_loader, progress=progress)
        return self

    def fit_features(self, maps: Tensor, y: Any = None) -> Self:
        """
        Fit the other detector to feature maps.

        :param maps: as for :meth:`ViyogResidue.fit_features`
        :param y: as for :meth:`ViyogResidue.fit_features`
        :return: the fitted detector
        :raises ValueError: as :meth:`ViyogResidue.fit_features`
        """
        self.residue.fit_features(maps, y)
        return self

    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        raise NotImplementedError("ResidueOutlier has no fit of its own; fit the ViyogResidue.")

    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        raise NotImplementedError("ResidueOutlier has no fit of its own; fit the ViyogResidue.")

    def _require_state(self) -> dict[str, Tensor]:
        return self.residue._require_state()

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        return self._unlikeness(self.residue._call_features(call, state), state)

    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        maps = check_maps(maps, self.residue._layout)
        return self._unlikeness(self.residue._features(maps, state), state)

    def _unlikeness(self, features: Tensor, state: dict[str, Tensor]) -> Tensor:
        return -hypotheses(features, state, self.residue._settings)[:, 0]
