"""
Fitted detectors as modules without their models: first-layer maps to scores.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import Module, ModuleList

from ..detectors.base import FirstLayerDetector
from ..detectors.residue_view import ResidueView
from ..layer.checks import check_maps
from ..layer.layer_call import LayerCall

__all__ = ["FittedState", "MapsToScores", "Scorers", "checked_detector", "maps_to_scores"]


class FittedState(Module):
    """Copies of fitted tensors as buffers, so that they move and are exported with the module."""

    def __init__(self, state: Mapping[str, Tensor]):
        super().__init__()
        self.names = list(state)
        for name, tensor in state.items():
            self.register_buffer(name, tensor.detach().clone())

    def tensors(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(name) for name in self.names}


class Scorers(Module):
    """
    What fitted detectors need to score, without their models. What several of them read of one
    fit is held, and read from a layer, once.
    """

    def __init__(self, detectors: Mapping[str, FirstLayerDetector]):
        super().__init__()
        fits = {id(detector.fits): detector.fits for detector in detectors.values()}
        self.states = ModuleList(FittedState(fit._require_state()) for fit in fits.values())
        self.number = {name: [*fits].index(id(d.fits)) for name, d in detectors.items()}
        bare = {key: fit._without_model() for key, fit in fits.items()}
        self.scoring = {name: _bare(detector, bare) for name, detector in detectors.items()}

    def of_maps(self, maps: Tensor) -> dict[str, Tensor]:
        """Detector -> scores, of raw outputs of the layer, :math:`B \\times C \\times *S`."""
        return {
            name: scoring._score(check_maps(maps, scoring.fits._layout), self._state(name))
            for name, scoring in self.scoring.items()
        }

    def of_call(self, call: LayerCall) -> dict[str, Tensor]:
        """Detector -> scores of the moment that the layer runs."""
        return {
            name: scoring._score_call(call, self._state(name))
            for name, scoring in self.scoring.items()
        }

    def _state(self, name: str) -> dict[str, Tensor]:
        state = self.states[self.number[name]]
        assert isinstance(state, FittedState)
        return state.tensors()


def _bare(
    detector: FirstLayerDetector, fits: Mapping[int, FirstLayerDetector]
) -> FirstLayerDetector:
    if not isinstance(detector, ResidueView):
        return fits[id(detector.fits)]
    bare: ResidueView = detector._without_model()
    bare.residue = fits[id(detector.fits)]
    return bare


class MapsToScores(Module):
    """
    A fitted detector as a module without model, from first-layer maps to scores, for
    ``torch.export``, ONNX and ``torch.compile``; later fits of the detector do not change it.
    Unlike the detector, it does not refuse NaN and inf; their scores are NaN. For inputs instead
    of maps, see :func:`~pytorch_ood_viyog.deploy.scored_model.with_score`.

    .. rubric:: Examples

    .. code-block:: python

        scores = maps_to_scores(detector)(maps)
    """

    def __init__(self, detector: FirstLayerDetector):
        """
        :param detector: fitted detector
        :raises TypeError: if it is no first-layer detector
        :raises RequiresFittingException: if it is not fitted
        """
        super().__init__()
        self.scorers = Scorers({"score": checked_detector(detector)})

    def forward(self, maps: Tensor) -> Tensor:
        """
        :param maps: raw outputs of the first convolution, :math:`B \\times C \\times *S`
        :return: scores of shape :math:`B`, larger for ADV
        """
        return self.scorers.of_maps(maps)["score"]


#: the same, as one calls it
maps_to_scores = MapsToScores


def checked_detector(detector: object) -> FirstLayerDetector:
    """What a user gave as a detector, if it is a first-layer detector."""
    if not isinstance(detector, FirstLayerDetector):
        raise TypeError(f"detector must be a first-layer detector, got {type(detector).__name__}.")
    return detector
