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
from ..layer.finding import Branches
from ..layer.layer_call import LayerCall
from .logits import Answers

__all__ = [
    "PURIFIERS",
    "Purification",
    "Purifier",
    "PurifierError",
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
    """How a model is asked twice."""

    #: asks the model
    answers: Answers
    #: fitted detector whose noise floor and directions are used
    residue: ViyogResidue
    #: black and white of the inputs
    pixels: PixelRange
    #: how much of the noise floor is added to a strength
    follow: float
    #: what takes responses back to the maps, see :func:`~pytorch_ood_viyog.residue.maps.duals`
    duals: Tensor

    def first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """:return: logits of the first answer, and noise floors, shape :math:`B`, of one pass"""
        floors: list[Tensor] = []
        logits = self.answers.logits(
            x, read=lambda call: floors.append(self.residue.noise_floor_at(call))
        )
        return logits, floors[0]

    def floors(self, x: Tensor) -> Tensor:
        """:return: noise floors; the model runs up to the first layer only"""
        return self.answers.first_layer.run(x, self.residue.noise_floor_at)

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
        try:
            images = self.pixels.images(x)
            if IMAGE_PURIFIERS[purifier].rounds:
                self.pixels.check(images)
            return self.pixels.inputs(purified_images(purifier, images, strengths), x)
        except ValueError as error:  # the first answer goes with it
            raise PurifierError(str(error)) from None

    def _from_maps(self, x: Tensor, strengths: Tensor) -> Tensor:
        duals = self.duals.to(x.device)

        def change(call: LayerCall) -> Tensor:
            if isinstance(call.layer, Branches):
                raise TypeError(
                    f"Purifier 'maps' changes one convolution, but the first layer has several "
                    f"branches, {call.layer.name!r}. Choose a purifier that works on the input."
                )
            maps = self.residue.purified_maps_at(call, duals, strengths)
            _check_purified(maps)
            return maps

        return self.answers.logits(x, change=change)


def _check_purified(values: Tensor) -> None:
    try:
        check_finite("The purifier's output", values)
    except ValueError as error:
        raise PurifierError(str(error)) from None
