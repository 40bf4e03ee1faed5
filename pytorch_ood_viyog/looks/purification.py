"""
Ask the model again without the residue, and choose how from ID data alone.
"""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
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
    "Choice",
    "Purification",
    "Purifier",
    "PurifierError",
    "chosen",
    "residue_duals",
]

#: a name of :data:`PURIFIERS`, or a function of model inputs
Purifier = str | Callable[[Tensor], Tensor]

#: purifiers by name
PURIFIERS = (*IMAGE_PURIFIERS, "maps")
# those that "auto" tries; the bilateral filter and the median were never chosen and take time
_AUTO = ("nlm", "jpeg", "maps")
#: strengths that are tried, weakest first
STRENGTHS = tuple(levels / 255 for levels in (1, 2, 3, 4, 5, 6, 8, 12))


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


@dataclass(frozen=True)
class Choice:
    """
    :param purifier: how the residue is taken out
    :param strength: strength for a noise floor of zero
    :param flips: share of ID answers that changed, the larger of without and with noise
    :param residual: distance of a noisy sample's second logits from the clean sample's first, as
        a share of that of its first
    """

    purifier: Purifier
    strength: float
    flips: float
    residual: float


def chosen(
    purification: Purification,
    purifier: Purifier,
    strength: float | None,
    clean: Tensor,
    noisy: Tensor,
    loud: Tensor,
    max_flips: float,
) -> Choice:
    """
    Choose a purifier and its strength from ID data alone: of all strengths at which at most
    ``max_flips`` of the answers to ID samples change, without and with simulated noise, the one
    that brings the logits of a sample with loud noise :math:`\\delta` nearest to those :math:`l`
    of the clean one,

    .. math::
        r = \\frac{\\mathrm{median}\\, \\| l'(x + \\delta) - l(x) \\|}
                  {\\mathrm{median}\\, \\| l(x + \\delta) - l(x) \\|}.

    Too weak a purifier leaves the noise, too strong a one takes the image along. The strength
    does not follow the loud noise.

    :param purification: how the model is asked
    :param purifier: a name, a function, or ``"auto"`` for the choice among several
    :param strength: the only strength to try; ``None`` for the choice among several
    :param clean: ID inputs
    :param noisy: the same with simulated noise that answers must survive
    :param loud: the same with noise as strong as attacks are
    :param max_flips: share of answers that may change
    :return: the choice; warns if more answers change at the weakest strength already
    """
    judge = _Judge(purification, clean, noisy, loud)
    names = _available() if isinstance(purifier, str) and purifier == "auto" else (purifier,)
    strengths = STRENGTHS if strength is None else (strength,)
    fixed = not isinstance(purifier, str) or purifier == "median"
    tried = strengths[:1] if fixed else strengths
    candidates = [choice for name in names for choice in judge.judged(name, tried, max_flips)]
    surviving = [choice for choice in candidates if choice.flips <= max_flips]
    if surviving:
        return min(surviving, key=lambda choice: choice.residual)
    least = min(candidates, key=lambda choice: choice.flips)
    warnings.warn(
        f"{least.flips:.1%} of the ID answers change with purifier {least.purifier!r} at strength "
        f"{least.strength * 255:.3g}/255, more than max_flips={max_flips:.1%}, and no other "
        f"that was tried changes fewer. The second answer is less reliable by that.",
        stacklevel=4,
    )
    return least


class _Judge:
    """ID samples, clean and noisy, with their first answers."""

    def __init__(self, purification: Purification, clean: Tensor, noisy: Tensor, loud: Tensor):
        self.purification = purification
        self.samples = [(x, *purification.first(x)) for x in (clean, noisy)]
        self.loud, self.clean = loud, self.samples[0][1]
        self.effect = _spread(purification.first(loud)[0] - self.clean)

    def judged(
        self, purifier: Purifier, strengths: Sequence[float], max_flips: float
    ) -> list[Choice]:
        """Up to the first strength at which too many answers change."""
        found: list[Choice] = []
        for strength in strengths:
            found.append(self._choice(purifier, strength))
            if found[-1].flips > max_flips:
                break
        return found

    def _choice(self, purifier: Purifier, strength: float) -> Choice:
        changed = []
        for x, first, floors in self.samples:
            second, _ = self.purification.second(x, floors, purifier, strength)
            changed.append((second.argmax(dim=1) != first.argmax(dim=1)).double().mean())
        still = torch.zeros_like(self.samples[0][2])
        restored, _ = self.purification.second(self.loud, still, purifier, strength)
        left = _spread(restored - self.clean) / self.effect.clamp_min(1e-12)
        return Choice(purifier, strength, float(max(changed)), float(left))


def _spread(change: Tensor) -> Tensor:
    centred = change.double() - change.double().mean(dim=1, keepdim=True)
    median: Tensor = centred.norm(dim=1).median()
    return median


def _available() -> tuple[str, ...]:
    missing = [
        name
        for name in _AUTO
        if name in IMAGE_PURIFIERS
        and importlib.util.find_spec(IMAGE_PURIFIERS[name].library) is None
    ]
    if missing:
        warnings.warn(
            f"The purifiers {missing} are not tried: their libraries are not installed "
            f"(pip install 'pytorch-ood-viyog[purify]').",
            stacklevel=5,
        )
    return tuple(name for name in _AUTO if name not in missing)
