"""The map of threats: attacks of every kind, sized by the number of pixels."""

from dataclasses import dataclass
from math import sqrt

import torch
from foolbox import attacks
from pretrained_scores import CARLINI_WAGNER, Trial
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark.attacks import (
    Attack,
    ColourShift,
    FoolboxAttack,
    SmoothPGD,
    Square,
    TrainedPatch,
    named_attack,
)

__all__ = ["Transferred", "kinds", "threats"]

_LINF = 8 / 255
_BLURS = (0.5, 0.7, 1.0, 1.5, 2.5)
# root mean squares of the change, in 1/255
_L2_SIZES = (0.5, 1, 2)
# pixels a side up to which a minimal change is large enough to survive rounding
_SMALL = 64
_L1_MEAN = 0.5 / 255  # mean absolute change


@dataclass(frozen=True)
class Transferred:
    """
    An attack on another classifier of the same classes, which may or may not fool this one.

    :param attack: the attack
    :param name: of the other classifier
    :param surrogate: the other classifier
    """

    attack: Attack
    name: str
    surrogate: nn.Module

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: not asked
        :param x: images in [0, 1]
        :param y: answers to change
        :return: perturbed images
        """
        with torch.enable_grad():
            return self.attack(self.surrogate.to(x.device), x, y)

    def __repr__(self) -> str:
        return f"Transferred({self.attack!r}, {self.name})"


def threats(size: int, surrogate: tuple[str, nn.Module]) -> dict[str, dict[str, Trial]]:
    """
    :param size: height and width of the images
    :param surrogate: name and model of another classifier of the same classes
    :return: kind of threat -> name -> attack
    """
    return {
        "L∞": {"pgd8": Trial(_pgd8()), "square8": _part(Square(_LINF, queries=300))},
        "smooth L∞": {f"smooth8 {blur:g} px": _few(SmoothPGD(_LINF, blur)) for blur in _BLURS},
        "L2": _l2(size),
        "sparse": _sparse(size),
        "decision-based": {"boundary": _least(_boundary())},
        "spatial": {"rotation, shift": _part(_spatial(size))},
        "patch": {"trained square": _few(TrainedPatch())},
        "colour": {"hue, saturation": _part(ColourShift())},
        "transfer": {
            "pgd8 of another net": Trial(Transferred(named_attack("pgd8"), *surrogate), 0.2)
        },
    }


def kinds(groups: dict[str, dict[str, Trial]]) -> dict[str, str]:
    """:return: name of an attack -> kind of threat"""
    return {name: kind for kind, trials in groups.items() for name in trials}


def _pgd8() -> Attack:
    return named_attack("pgd8")


def _part(attack: Attack) -> Trial:
    return Trial(attack, share=0.4)


def _few(attack: Attack) -> Trial:
    return Trial(attack, share=0.1)


def _least(attack: Attack) -> Trial:
    return Trial(attack, share=0.05)


def _l2(size: int) -> dict[str, Trial]:
    """PGD of three sizes, and two that look for the smallest change, carried beyond the border."""
    pgd = attacks.L2PGD(steps=20, rel_stepsize=2.5 / 20)
    norm = sqrt(3 * size**2) / 255
    ddn = attacks.DDNAttack(steps=30)
    return {
        **{f"L2 PGD {rms:g}": _few(FoolboxAttack(pgd, rms * norm)) for rms in _L2_SIZES},
        "DDN": _few(FoolboxAttack(ddn)),
        "cw": _part(CARLINI_WAGNER if size > _SMALL else named_attack("cw")),
    }


def _sparse(size: int) -> dict[str, Trial]:
    confidence = 5.0 if size > _SMALL else 0.5
    ead = attacks.EADAttack(
        binary_search_steps=2,
        steps=30,
        initial_stepsize=0.05,
        confidence=confidence,
        initial_const=2 * confidence,
    )
    descent = attacks.SparseL1DescentAttack(steps=20)
    salt = attacks.SaltAndPepperNoiseAttack(steps=100)
    return {
        "EAD": _few(FoolboxAttack(ead)),
        "sparse L1 descent": _few(FoolboxAttack(descent, _L1_MEAN * 3 * size**2)),
        "salt and pepper": _few(FoolboxAttack(salt)),
    }


def _boundary() -> Attack:
    start = attacks.SaltAndPepperNoiseAttack(steps=100)
    return FoolboxAttack(attacks.BoundaryAttack(init_attack=start, steps=300))


def _spatial(size: int) -> Attack:
    search = attacks.SpatialAttack(
        max_translation=size / 10, max_rotation=30, grid_search=False, random_steps=40
    )
    return FoolboxAttack(search)
