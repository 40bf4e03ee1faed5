"""
Ask the model again without the residue.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..detectors.residue import ViyogResidue
from ..images.pixel_range import PixelRange
from ..images.purifiers import IMAGE_PURIFIERS, purified_images
from ..layer.checks import check_finite
from ..layer.first_layer import LayerCall
from ..residue.evidence import noise_floor
from ..residue.purified_maps import duals, purified_maps
from .logits import Answers

__all__ = [
    "PURIFIERS",
    "Purification",
    "Purifier",
    "PurifierError",
    "residue_duals",
]

#: a name of :data:`PURIFIERS`, or a function of model inputs
Purifier = str | Callable[[Tensor], Tensor]

#: purifiers by name
PURIFIERS = (*IMAGE_PURIFIERS, "maps")


class PurifierError(ValueError):
    """A purifier gave something that the model cannot be asked about."""

    #: logits of the first answer, which stands; ``None`` where it was not asked for yet
    first: Tensor | None = None


@dataclass(frozen=True)
class Purification:
    """
    :param answers: asks the model
    :param residue: fitted detector whose noise floor and directions are used
    :param pixels: black and white of the inputs
    :param follow: how much of the noise floor is added to a strength
    :param duals: what takes responses back to the maps, see
        :func:`~pytorch_ood_viyog.residue.purified_maps.duals`
    """

    answers: Answers
    residue: ViyogResidue
    pixels: PixelRange
    follow: float
    duals: Tensor

    def first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """
        :param x: batch of model inputs
        :return: logits of the first answer, and the noise floor of each sample, from one pass
        """
        floors: list[Tensor] = []
        logits = self.answers.logits(x, read=lambda call: floors.append(self._floor(call)))
        return logits, floors[0]

    def floors(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs
        :return: the noise floor of each sample; the model runs up to the first layer only
        """
        return self.answers.first_layer.run(x, self._floor)

    def _floor(self, call: LayerCall) -> Tensor:
        state = self.residue._require_state()
        return noise_floor(self.residue._call_features(call, state), state)

    def second(
        self, x: Tensor, floors: Tensor, purifier: Purifier, strength: float
    ) -> tuple[Tensor, Tensor]:
        """
        :param x: batch of model inputs
        :param floors: noise floor of each sample
        :param purifier: how the residue is taken out
        :param strength: strength for a noise floor of zero
        :return: logits of the second answer, and the strength for each sample
        :raises PurifierError: if the purifier gives another shape or NaN
        """
        strengths = strength + self.follow * floors
        if purifier == "maps":
            return self._from_maps(x, strengths), strengths
        inputs = self._purified(x, purifier, strengths)
        if not isinstance(inputs, Tensor) or inputs.shape != x.shape:
            got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise PurifierError(
                f"The purifier must give inputs of the same shape {tuple(x.shape)}, got {got}."
            )
        _check_purified(inputs)
        return self.answers.logits(inputs.to(x)), strengths

    def _purified(self, x: Tensor, purifier: Purifier, strengths: Tensor) -> Tensor:
        if not isinstance(purifier, str):
            return purifier(x)
        images = self.pixels.images(x)
        if IMAGE_PURIFIERS[purifier].rounds:
            self.pixels.check(images)
        return self.pixels.inputs(purified_images(purifier, images, strengths), x)

    def _from_maps(self, x: Tensor, strengths: Tensor) -> Tensor:
        state, back = self.residue._require_state(), self.duals.to(x.device)

        def change(call: LayerCall) -> Tensor:
            maps = purified_maps(call.maps(), state["mean"], state["local"], back, strengths)
            _check_purified(maps)
            return maps

        return self.answers.logits(x, change=change)


def residue_duals(answers: Answers, residue: ViyogResidue, x: Tensor) -> Tensor:
    """
    :param answers: asks the model
    :param residue: fitted detector
    :param x: a few model inputs
    :return: the duals of its directions, from the first layer's weights
    """
    state = residue._require_state()

    def read(call: LayerCall) -> Tensor:
        conv = residue._known_layer.describe(call.layer, call.input, call.maps())
        return duals(conv.kernel, state["scale"], state["local"])

    return answers.first_layer.run(x, read)


def _check_purified(values: Tensor) -> None:
    try:
        check_finite("The purifier's output", values)
    except ValueError as error:
        raise PurifierError(str(error)) from None
