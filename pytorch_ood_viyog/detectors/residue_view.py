"""
ResidueView: other readings of what a ViyogResidue sees, as detectors of their own.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from typing_extensions import Self

from ..fitting.checked import Checked
from ..fitting.fitted import Statistics
from ..layer.checks import check_maps
from ..layer.layer_call import LayerCall
from ..residue.evidence import Settings, hypotheses, noise_floor
from ..residue.features import unreadable
from .base import PAPER, FirstLayerDetector
from .residue import ViyogResidue

__all__ = ["ReadingName", "ResidueView"]

#: what of the features is read
ReadingName = Literal["alarm", "smooth alarm", "noise floor", "outlier"]

_State = dict[str, Tensor]


def _alarm(features: Tensor, state: _State, contrast: str = "contrast") -> Tensor:
    scores = (features - state["means"][0]) @ state[contrast]
    return torch.where(unreadable(features), scores.clamp_max(0), scores)


_READINGS: dict[str, Callable[[Tensor, _State, Settings], Tensor]] = {
    "alarm": lambda features, state, _: _alarm(features, state),
    "smooth alarm": lambda features, state, _: _alarm(features, state, "smooth_contrast"),
    "noise floor": lambda features, state, _: noise_floor(features, state),
    "outlier": lambda features, state, settings: -hypotheses(features, state, settings)[:, 0],
}


def _check_reading(name: str, value: str) -> str:
    if value not in _READINGS:
        raise ValueError(f"{name} must be one of {list(_READINGS)}, got {value!r}.")
    return value


class ResidueView(FirstLayerDetector):
    """
    Another reading of the features :math:`f` of a
    :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue`, with whom it shares model, layer
    and fitted state: fitting either of them fits both.

    - ``"alarm"``: the contrast of ID and ADV alone, in standard deviations within the groups,

      .. math:: s(x) = w^\\top (f(x) - \\mu_{ID})

      with :math:`w` Fisher's linear discriminant of ID samples against the same samples with the
      residues of all strengths, see
      :func:`~pytorch_ood_viyog.residue.hypotheses.fisher_contrast`. :class:`ViyogResidue` also
      weighs whether an input is like anything known, which costs recall where ID images differ
      much in their noise floor: this contrast finds more of the weak attacks at the same rate of
      false alarms, and OOD inputs too. An image that is constant nearly everywhere raises none.
    - ``"smooth alarm"``: the same against smooth residues
      (:func:`~pytorch_ood_viyog.residue.random_residues.smooth_signs`, 1.5 positions). An attacker
      who blurs the perturbation in every step leaves the finest detail alone, where all the
      others look; this one does not see white residues.
    - ``"noise floor"``: the strength of the residue, as :meth:`ViyogResidue.noise_floor` estimates
      it. Half of ID images have exactly 0: evidence beside others, no detector by itself.
    - ``"outlier"``: the ID hypothesis as an OOD score, :math:`s(x) = -\\log p(f(x) \\mid ID)` up
      to a constant. Other resolutions, cameras, compressions and scenes have another floor.

    **Sign.** Larger for ADV than for ID; of an outlier, for *any* anomaly. OOD inputs can have
    any alarm: use :class:`ViyogResidue` to tell these from ADV.
    :class:`~pytorch_ood_viyog.triage.triage.Triage` weighs such evidence.

    .. rubric:: Examples

    .. code-block:: python

        residue = ViyogResidue(model)
        alarm = ResidueView(residue, reading="alarm").fit(train_loader)
        scores = alarm(images)
    """

    info = DetectorInfo(paper=PAPER, tasks={Task.CLASSIFICATION}, ai_coded=True)
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {"reading": list(_READINGS)}

    #: what is read of the features
    reading = Checked(_check_reading)

    def __init__(self, residue: ViyogResidue, *, reading: ReadingName = "alarm"):
        """
        :param residue: the detector whose features are read
        :param reading: what is read of them
        :raises TypeError: if ``residue`` is no :class:`ViyogResidue`
        :raises ValueError: if ``reading`` is not known
        """
        if not isinstance(residue, ViyogResidue):
            raise TypeError(f"residue must be a ViyogResidue, got {type(residue).__name__}.")
        super().__init__(residue.model, layer=residue.layer)
        self.residue = residue
        self.reading = reading

    # -- what the other detector does for both ----------------------------------------------

    def fit(
        self, data_loader: Iterable[Any], *, progress: bool = True, max_images: int | None = None
    ) -> Self:
        """Fit the other detector, which this one reads, see :meth:`ViyogResidue.fit`."""
        self.residue.fit(data_loader, progress=progress, max_images=max_images)
        return self

    def fit_features(self, maps: Tensor, y: Any = None) -> Self:
        """Fit the other detector to feature maps, see :meth:`ViyogResidue.fit_features`."""
        self.residue.fit_features(maps, y)
        return self

    def partial_fit_features(self, maps: Tensor, y: Any = None) -> Self:
        """Go on fitting the other, see :meth:`ViyogResidue.partial_fit_features`."""
        self.residue.partial_fit_features(maps, y)
        return self

    def merge(self, other: Self) -> Self:
        """Add what another view's detector was fitted on, see :meth:`ViyogResidue.merge`."""
        if type(other) is not type(self):
            raise TypeError(f"other must be a {type(self).__name__}, got {type(other).__name__}.")
        self.residue.merge(other.residue)
        return self

    def state_dict(self) -> dict[str, Any]:
        """:return: that of the other detector"""
        return self.residue.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """Take over what :meth:`state_dict` of this or of the other detector gave."""
        self.residue.load_state_dict(state)
        return self

    @property
    def fits(self) -> ViyogResidue:
        """The detector whose fit this one reads."""
        return self.residue

    @property
    def layer_name(self) -> str | None:
        """Dotted name of the layer that is read; ``None`` before the first pass has found it."""
        return self.residue.layer_name

    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        return self.residue._measure(maps, inputs)

    def _conclude(self, statistics: Statistics) -> _State:
        return self.residue._conclude(statistics)

    @property
    def _is_fitted(self) -> bool:
        return self.residue._is_fitted

    def _require_state(self) -> _State:
        return self.residue._require_state()

    def _warn_of_other_kind(self, inputs: Tensor, state: _State) -> None:
        self.residue._warn_of_other_kind(inputs, state)

    def _without_model(self) -> Self:
        bare = super()._without_model()
        bare.residue = self.residue._without_model()
        return bare

    # -- predict ----------------------------------------------------------------------------

    def _score_call(self, call: LayerCall, state: _State) -> Tensor:
        return self._view(self.residue._read_call(call, state).features, state)

    def _score(self, maps: Tensor, state: _State) -> Tensor:
        maps = check_maps(maps, self.residue._layout)
        return self._view(self.residue._read_maps(maps, state).features, state)

    def _view(self, features: Tensor, state: _State) -> Tensor:
        return _READINGS[self.reading](features, state, self.residue._settings)
