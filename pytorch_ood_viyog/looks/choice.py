"""
Which purifier takes the residue out, and how strongly: chosen from ID data alone.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..images.purifiers import IMAGE_PURIFIERS
from .purification import Purification, Purifier

__all__ = ["STRENGTHS", "Choice", "chosen"]

#: strengths that are tried, weakest first
STRENGTHS = tuple(levels / 255 for levels in (1, 2, 3, 4, 5, 6, 8, 12))
# those that "auto" tries; the bilateral filter and the median were never chosen and take time
_AUTO = ("nlm", "jpeg", "maps")


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
