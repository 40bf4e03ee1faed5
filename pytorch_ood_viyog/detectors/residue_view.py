"""
The base of detectors that read the features of a ViyogResidue in another way.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from typing_extensions import Self

from ..fitting.fitted import Statistics
from ..layer.checks import check_maps
from ..layer.layer_call import LayerCall
from .base import PAPER, FirstLayerDetector
from .residue import ViyogResidue

__all__ = ["ResidueView"]


class ResidueView(FirstLayerDetector):
    """
    Another reading of a :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue`, with whom it
    shares model, layer and fitted state: fitting either of them fits both.

    A view implements :meth:`_view`.
    """

    info = DetectorInfo(paper=PAPER, tasks={Task.CLASSIFICATION}, ai_coded=True)
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {}

    def __init__(self, residue: ViyogResidue):
        """
        :param residue: the detector whose features are read
        :raises TypeError: if it is no :class:`ViyogResidue`
        """
        if not isinstance(residue, ViyogResidue):
            raise TypeError(f"residue must be a ViyogResidue, got {type(residue).__name__}.")
        super().__init__(residue.model, layer=residue.layer)
        self.residue = residue

    @abstractmethod
    def _view(self, features: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Scores of shape :math:`B` from features, :math:`B \\times F`."""

    def fit(
        self, data_loader: Iterable[Any], *, progress: bool = True, max_images: int | None = None
    ) -> Self:
        """
        Fit the other detector, which this one reads.

        :param data_loader: as for :meth:`ViyogResidue.fit`
        :param progress: show a progress bar where the pass takes more than a second
        :param max_images: as for :meth:`ViyogResidue.fit`
        :return: the fitted detector
        :raises ValueError: as :meth:`ViyogResidue.fit`
        """
        self.residue.fit(data_loader, progress=progress, max_images=max_images)
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

    def partial_fit_features(self, maps: Tensor, y: Any = None) -> Self:
        """
        Go on fitting the other detector.

        :param maps: as for :meth:`ViyogResidue.partial_fit_features`
        :param y: as for :meth:`ViyogResidue.partial_fit_features`
        :return: the fitted detector
        :raises ValueError: as :meth:`ViyogResidue.partial_fit_features`
        """
        self.residue.partial_fit_features(maps, y)
        return self

    def merge(self, other: Self) -> Self:
        """
        Add what another view's detector was fitted on.

        :param other: as for :meth:`ViyogResidue.merge`, a view
        :return: the detector
        :raises TypeError: if ``other`` is of another class
        :raises ValueError: as :meth:`ViyogResidue.merge`
        """
        if type(other) is not type(self):
            raise TypeError(f"other must be a {type(self).__name__}, got {type(other).__name__}.")
        self.residue.merge(other.residue)
        return self

    def state_dict(self) -> dict[str, Any]:
        """:return: that of the other detector"""
        return self.residue.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """
        :param state: what :meth:`state_dict` of this or of the other detector gave
        :return: the fitted detector
        :raises ValueError: as :meth:`ViyogResidue.load_state_dict`
        """
        self.residue.load_state_dict(state)
        return self

    @property
    def fits(self) -> ViyogResidue:
        """The detector whose fit this one reads."""
        return self.residue

    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        return self.residue._measure(maps, inputs)

    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        return self.residue._conclude(statistics)

    @property
    def layer_name(self) -> str | None:
        """Dotted name of the layer that is read; ``None`` before the first pass has found it."""
        return self.residue.layer_name

    @property
    def _is_fitted(self) -> bool:
        return self.residue._is_fitted

    def _require_state(self) -> dict[str, Tensor]:
        return self.residue._require_state()

    def _warn_of_other_kind(self, inputs: Tensor, state: dict[str, Tensor]) -> None:
        self.residue._warn_of_other_kind(inputs, state)

    def _without_model(self) -> Self:
        bare = super()._without_model()
        bare.residue = self.residue._without_model()
        return bare

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        return self._view(self.residue._call_features(call, state), state)

    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        maps = check_maps(maps, self.residue._layout)
        return self._view(self.residue._features(maps, state), state)
