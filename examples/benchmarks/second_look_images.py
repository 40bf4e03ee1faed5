"""What the benchmark of the second look is made of: models, and images with different jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from photographs import Photographs
from prepare import ATTACKS
from pretrained_scores import CARLINI_WAGNER, Trial, answers_of, craft_all
from separation_scores import NOISE, load_setting
from smooth_pgd import SmoothPGD
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark.attacks import craft, named_attack, round_to_8_bit

SMOOTH = {"smooth0.7": 0.7, "smooth1.0": 1.0, "smooth1.5": 1.5}
NOISES = (2, 4, 8)
_BATCH = 50
# images of ID data to measure on, to fit the look to and to calibrate on; of each OOD set
_ID, _LOOK, _CALIBRATION = 200, 200, 300
_OOD = 20
_ATTACKED = 400
# smooth attacks are slow at 224 pixels
_SLOW_BATCH, _SLOW_SHARE, _SHARE = 8, 0.32, 0.4


@dataclass(frozen=True)
class Material:
    """
    :param name: of the configuration
    :param model: classifier of images in [0, 1]
    :param fit: ID images that detectors are fitted to
    :param look: ID images that the second look is fitted to: new to the model
    :param calibration: further ID images
    :param groups: images to score, ``id``, ``noise/N``, ``adv/ATTACK``, ``ood/SET``
    :param labels: attack -> true labels
    """

    name: str
    model: nn.Module
    fit: Tensor
    look: Tensor
    calibration: Tensor
    groups: dict[str, Tensor]
    labels: dict[str, Tensor]

    @staticmethod
    def batches(x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """:return: images with labels 0, batch by batch"""
        return [(part, torch.zeros(len(part))) for part in torch.split(x, _BATCH)]


def small_material(name: str, data: Path, cache: Path, n: int) -> Material:
    """
    :param name: a key of ``prepare.CONFIGS``
    :param data: data folder
    :param cache: cache folder
    :param n: images of each attack
    :return: the configuration of ``separation.py``
    """
    setting = load_setting(name, data, cache, list(ATTACKS), _ATTACKED)
    clean, look, calibration = id_parts(setting.clean)
    found = {attack: (each.x[:n], each.y[:n]) for attack, each in setting.adv.items()}
    for attack, sigma in SMOOTH.items():
        examples = craft(
            setting.model,
            SmoothPGD(8 / 255, sigma),
            setting.test.x[:n],
            setting.test.y[:n],
            name=attack,
            cache=cache / "attacks" / setting.name,
        )
        found[attack] = examples.x, examples.y
    natural = {each: x for each, x in setting.ood.items() if each not in NOISE}
    groups, labels = grouped(clean, found, natural, n)
    return Material(name, setting.model, setting.fit.x, look, calibration, groups, labels)


def pretrained_material(
    name: str,
    model: nn.Module,
    photographs: Photographs,
    ood: Mapping[str, Tensor],
    cache: Path,
    n: int,
) -> Material:
    """
    :param name: of the model
    :param model: classifier of photographs
    :param photographs: ID images in three parts; those to measure on are split in two
    :param ood: OOD images by name
    :param cache: cache folder, of the attacks of ``pretrained.py`` too
    :param n: images of each attack
    :return: the material; the model's own answers to clean images count as true
    """
    half = len(photographs.test) // 2
    clean, calibration = photographs.test[:half], photographs.test[half:]
    folder, images = cache / "attacks" / name, photographs.attacked
    names = ("fgsm8", "pgd8", "pgd4", "pgd2")
    trials = {each: Trial(named_attack(each)) for each in names}
    trials["bim8"] = Trial(named_attack("bim8"), share=_SHARE)
    trials["cw"] = Trial(CARLINI_WAGNER, share=_SHARE)
    examples = craft_all(model, trials, images, folder)
    part = images[: round(_SLOW_SHARE * len(images))]
    answers = answers_of(model, part)
    for attack, sigma in SMOOTH.items():
        attacked = SmoothPGD(8 / 255, sigma)
        options = {"name": attack, "batch_size": _SLOW_BATCH, "cache": folder}
        examples[attack] = craft(model, attacked, part, answers, **options)
    found = {attack: (each.x[:n], each.y[:n]) for attack, each in examples.items()}
    groups, labels = grouped(clean, found, ood, n)
    return Material(name, model, photographs.fit, photographs.fit, calibration, groups, labels)


def id_parts(clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """:return: disjoint ID images to measure on, to fit the look to, and to calibrate on"""
    measured = min(_ID, len(clean) // 3)
    fitted = min(_LOOK, (len(clean) - measured) // 3)
    first, second, rest = clean.split([measured, fitted, len(clean) - measured - fitted])
    return first, second, rest[:_CALIBRATION]


def grouped(
    clean: Tensor, adv: Mapping[str, tuple[Tensor, Tensor]], ood: Mapping[str, Tensor], n: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """
    :param clean: ID images
    :param adv: attack -> images and true labels
    :param ood: OOD images by name
    :param n: number of noisy ID images
    :return: all groups, noisy ID images among them, and the labels of the attacked ones
    """
    generator, some = torch.Generator().manual_seed(5), clean[:n]
    groups = {"id": clean}
    for level in NOISES:
        noise = torch.randn(some.shape, generator=generator)
        groups[f"noise/{level}"] = round_to_8_bit(some + level / 255 * noise)
    groups |= {f"adv/{attack}": x for attack, (x, _) in adv.items()}
    groups |= {f"ood/{name}": x[:_OOD] for name, x in ood.items()}
    return groups, {attack: y for attack, (_, y) in adv.items()}
