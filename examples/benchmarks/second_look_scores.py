"""What the benchmark of the second look measures: images, detectors, scores and second answers.

A configuration's scores are stored under ``CACHE/second_look`` with a hash of what they depend on.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from prepare import ATTACKS
from pytorch_ood.detector import EnergyBased
from separation_scores import NOISE, Setting, key, load_setting, score_all, stored
from smooth_pgd import SmoothPGD
from torch import Tensor, nn
from tqdm import tqdm

from pytorch_ood_viyog import Fused, SecondLook, Triage, ViyogResidue
from pytorch_ood_viyog.benchmark.attacks import craft, round_to_8_bit
from pytorch_ood_viyog.detectors import ResidueAlarm
from pytorch_ood_viyog.looks import FeatureSqueezing, NoiseStability

SMOOTH = {"smooth0.7": 0.7, "smooth1.0": 1.0, "smooth1.5": 1.5}
NOISES = (2, 4, 8)
FUSED = "Fused"
WITH_ALARM = "Fused with alarm"
DETECTORS = (
    "ViyogResidue",
    "SecondLook",
    FUSED,
    WITH_ALARM,
    "FeatureSqueezing",
    "NoiseStability",
)
CONFIRM = ("none", "alarm", "always")
_BATCH = 100
# images of a set, for everything that runs models several times
_OOD = 40
_ID = 200
_CALIBRATION = 400
_ATTACKED = 400


@dataclass(frozen=True)
class Answers:
    """
    :param scores: detector -> group -> scores
    :param changed: group -> whether SecondLook's answer is another
    :param right: attack -> whether SecondLook's answer is the true label
    :param choice: purifier, strength in 1/255, flips and residual that SecondLook chose
    :param verdicts: how a triage confirms (``none``, ``alarm``, ``always``) -> group -> verdicts
    :param passes: how a triage confirms -> forward passes for each ID image
    """

    scores: dict[str, dict[str, Tensor]]
    changed: dict[str, Tensor]
    right: dict[str, Tensor]
    choice: dict[str, object]
    verdicts: dict[str, dict[str, Tensor]]
    passes: dict[str, float]


def load_small(name: str, data: Path, cache: Path) -> Setting:
    """:return: the configuration as ``separation.py`` has it"""
    return load_setting(name, data, cache, list(ATTACKS), _ATTACKED)


def id_parts(setting: Setting) -> tuple[Tensor, Tensor]:
    """:return: ID images to measure on, and others to calibrate triage on"""
    count = min(_ID, len(setting.clean) // 2)
    return setting.clean[:count], setting.clean[count : count + _CALIBRATION]


def groups(setting: Setting, cache: Path, n: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """
    :param setting: images and classifier
    :param cache: cache folder
    :param n: images of each attack
    :return: images by group (``id``, ``noise/N``, ``adv/ATTACK``, ``ood/SET``), and the true
        labels of the attacked ones
    """
    clean, _ = id_parts(setting)
    images, labels = {"id": clean}, {}
    generator = torch.Generator().manual_seed(5)
    some = clean[:100]
    for level in NOISES:
        noise = torch.randn(some.shape, generator=generator)
        images[f"noise/{level}"] = round_to_8_bit(some + level / 255 * noise)
    for attack, examples in setting.adv.items():
        images[f"adv/{attack}"], labels[attack] = examples.x[:n], examples.y[:n]
    for attack, sigma in SMOOTH.items():
        examples = craft(
            setting.model,
            SmoothPGD(8 / 255, sigma),
            setting.test.x[:n],
            setting.test.y[:n],
            name=attack,
            cache=cache / "attacks" / setting.name,
        )
        images[f"adv/{attack}"], labels[attack] = examples.x, examples.y
    natural = {name: x for name, x in setting.ood.items() if name not in NOISE}
    return images | {f"ood/{name}": x[:_OOD] for name, x in natural.items()}, labels


def load_answers(setting: Setting, cache: Path, n: int, fresh: bool) -> Answers:
    """
    :param setting: images and classifier
    :param cache: cache folder
    :param n: images of each attack
    :param fresh: compute anew even if the cache holds them
    :return: scores and second answers
    """
    path = cache / "second_look" / f"{setting.name}.pt"
    found = stored(path, key(setting, n), fresh, lambda: _computed(setting, cache, n))
    return Answers(**found)


def _computed(setting: Setting, cache: Path, n: int) -> dict[str, object]:
    images, labels = groups(setting, cache, n)
    model, loader = setting.model, [(x, torch.zeros(len(x))) for x in setting.batches()]
    residue, look = ViyogResidue(model), SecondLook(model)
    parts = {"residue": residue, "alarm": ResidueAlarm(residue), "look": look}
    fused = Fused(model, parts).fit(loader)
    detectors = {
        "FeatureSqueezing": FeatureSqueezing(model),
        "NoiseStability": NoiseStability(model),
    }
    scores: dict[str, dict[str, Tensor]] = {name: {} for name in DETECTORS}
    changed, right = {}, {}
    for group, x in tqdm(images.items(), desc=f"score {setting.name}"):
        scores["ViyogResidue"][group] = score_all(residue, x)
        found = [fused.surprises(part) for part in torch.split(x, _BATCH)]
        table = {part: torch.cat([each[part] for each in found]) for part in parts}
        # what Fused(model, {"residue": ..., "look": ...}) scores, and what all three do
        scores[FUSED][group] = table["residue"] + table["look"]
        scores[WITH_ALARM][group] = scores[FUSED][group] + table["alarm"]
        compared = [look.compare(part) for part in torch.split(x, _BATCH)]
        scores["SecondLook"][group] = torch.cat([c.scores for c in compared])
        changed[group] = torch.cat([c.changed for c in compared])
        answers = torch.cat([c.second.argmax(dim=1) for c in compared])
        if (attack := group.removeprefix("adv/")) in labels:
            right[attack] = answers == labels[attack]
        for name, detector in detectors.items():
            scores[name][group] = score_all(detector, x)
    chosen = look.choice
    choice = {
        "purifier": chosen.purifier,
        "strength": chosen.strength * 255,
        "flips": chosen.flips,
        "residual": chosen.residual,
    }
    verdicts, passes = {}, {}
    for how in CONFIRM:
        triage = fitted_triage(setting, residue, look, how)
        verdicts[how] = {g: score_all(triage.predict, x).long() for g, x in images.items()}
        passes[how] = forward_passes(setting.model, triage, images["id"])
    return {
        "scores": scores,
        "changed": changed,
        "right": right,
        "choice": choice,
        "verdicts": verdicts,
        "passes": passes,
    }


def fitted_triage(setting: Setting, residue: ViyogResidue, look: SecondLook, how: str) -> Triage:
    """:return: a triage of fitted detectors, calibrated on images that nothing was fitted on"""
    asks = {} if how == "none" else {"confirm": look, "confirm_when": how}
    triage = Triage(EnergyBased(None), residue, model=setting.model, **asks)
    _, calibration = id_parts(setting)
    train = [(part, torch.zeros(len(part))) for part in setting.batches()]
    return triage.fit(train, [(p, torch.zeros(len(p))) for p in torch.split(calibration, _BATCH)])


def forward_passes(model: nn.Module, triage: Triage, x: Tensor) -> float:
    """:return: how often the model's last layer ran for each image"""
    seen = []
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    handle = last.register_forward_hook(lambda layer, args, output: seen.append(len(output)))
    try:
        score_all(triage.predict, x)
    finally:
        handle.remove()
    return sum(seen) / len(x)
