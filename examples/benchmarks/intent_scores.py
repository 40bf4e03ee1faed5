"""What the benchmark of intent measures: images, fitted detectors and their scores, stored.

Scores of a configuration are stored under ``CACHE/intent`` with a hash of what they depend on.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from photographs import read_images, split_photographs
from pretrained import SIZE, TRIALS
from pretrained_scores import craft_all
from separation_scores import NOISE, load_setting
from sources import key, stored
from torch import Tensor, nn

from pytorch_ood_viyog import SharedForward, ViyogResidue
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.detectors import ResidueAlarm, ViyogIntent
from pytorch_ood_viyog.images import BenignChange
from pytorch_ood_viyog.residue.intent.evidence import joined

PRETRAINED = "efficientnet-lite0"
ATTACKS = ("fgsm8", "pgd8", "bim8", "pgd4", "pgd2", "deepfool", "cw")
RESIDUE, ALARM, INTENT, JOINED = "ViyogResidue", "ResidueAlarm", "ViyogIntent", "joined"
#: the benign changes of the targets
CHANGES = (
    *(BenignChange("white noise", strength) for strength in (2, 4, 8)),
    BenignChange("Poisson-Gaussian noise", 5),
    BenignChange("JPEG", 90),
    BenignChange("JPEG", 75),
    BenignChange("sharpening", 100),
    BenignChange("blur", 1),
)
OOD_NOISE = tuple(BenignChange("white noise", strength) for strength in (2, 8))
_SEED = 99
_REPEATS = 5

# scores by detector and then by images: ``calibration``, ``calibration, changed``, ``id``,
# ``benign/CHANGE``, ``adv/ATTACK``, ``ood/SET``, ``ood/SET/CHANGE``
Scores = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Parts:
    """
    :param model: classifier
    :param fit: ID images that detectors are fitted on
    :param calibration: ID images that thresholds are set on
    :param clean: ID images to measure on; the three are disjoint
    :param adv: successful examples of each attack
    :param ood: OOD images by set
    :param batch: images at once
    """

    model: nn.Module
    fit: Tensor
    calibration: Tensor
    clean: Tensor
    adv: dict[str, Tensor]
    ood: dict[str, Tensor]
    batch: int

    def groups(self) -> dict[str, Tensor]:
        """All images to measure on, by name."""
        changed = {f"benign/{c}": c(self.clean, seed=_SEED) for c in CHANGES}
        adv = {f"adv/{name}": x for name, x in self.adv.items()}
        ood = {f"ood/{name}": x for name, x in self.ood.items()}
        noisy = {
            f"ood/{name}/{change}": change(x, seed=_SEED)
            for name, x in self.ood.items()
            for change in OOD_NOISE
        }
        return {"calibration": self.calibration, "id": self.clean} | changed | adv | ood | noisy


def small_parts(name: str, data: Path, cache: Path, n: int) -> Parts:
    """
    :param name: a key of ``prepare.CONFIGS``
    :param data: data folder
    :param cache: cache folder
    :param n: images of each kind, at most
    :return: the configuration as ``separation.py`` has it
    """
    setting = load_setting(name, data, cache, ATTACKS, 400)
    held_out = min(400, len(setting.fit) // 4)  # of the fitting images, for the thresholds
    pixels = setting.fit.x
    return Parts(
        setting.model,
        pixels[:-held_out],
        pixels[-held_out:],
        setting.clean[:n],
        {name: found.x[:n] for name, found in setting.adv.items()},
        {name: x[: n // 4] for name, x in setting.ood.items() if name not in NOISE},
        100,
    )


def pretrained_parts(images: str, ood: dict[str, str], cache: Path, n: int) -> Parts:
    """
    :param images: ID images, as for ``pretrained.py``
    :param ood: OOD images by name, likewise
    :param cache: cache folder
    :param n: images of each kind, at most
    :return: EfficientNet-Lite0 as ``pretrained.py`` has it
    """
    model = named_model(PRETRAINED)
    photographs = split_photographs(read_images(images, SIZE), 150, 100)
    trials = {name: TRIALS[name] for name in ATTACKS}
    found = craft_all(model, trials, photographs.attacked, cache / "attacks" / PRETRAINED)
    test = photographs.test
    return Parts(
        model,
        photographs.fit,
        test[: len(test) // 2],
        test[len(test) // 2 :][:n],
        {name: examples.x[:n] for name, examples in found.items() if len(examples.x)},
        {name: read_images(path, SIZE)[: n // 4] for name, path in ood.items()},
        25,
    )


def load_scores(
    name: str, parts: Parts, residues: str, sample_size: int, cache: Path, fresh: bool
) -> tuple[Scores, dict[str, float]]:
    """
    :param name: of the configuration
    :param parts: its images and classifier
    :param residues: what shapes the simulated attacks
    :param sample_size: ID images that these and benign changes are simulated on
    :param cache: cache folder
    :param fresh: score anew even if the cache holds the scores
    :return: scores, and seconds of CPU time: ``fit``, ``predict`` of each detector
    """
    path = cache / "intent" / f"{name}-{residues}.pt"
    of = key(__file__, parts.model, parts.groups(), residues, sample_size)
    return stored(path, of, fresh, lambda: _computed(parts, residues, sample_size))


def _computed(parts: Parts, residues: str, sample_size: int) -> tuple[Scores, dict[str, float]]:
    start = time.process_time()
    residue = ViyogResidue(parts.model).fit(parts.fit.split(parts.batch))
    fitted = time.process_time()
    intent = ViyogIntent(parts.model, residues=residues, sample_size=sample_size)
    intent.fit(parts.fit.split(parts.batch))
    times = {f"fit {RESIDUE}": fitted - start, f"fit {INTENT}": time.process_time() - fitted}
    detectors = {RESIDUE: residue, ALARM: ResidueAlarm(residue), INTENT: intent}
    pipeline = SharedForward(parts.model, detectors)
    scores: Scores = {name: {} for name in (*detectors, JOINED)}
    for group, x in parts.groups().items():
        found = pipeline.score(x.split(parts.batch), progress=False)
        for name in detectors:
            scores[name][group] = found[name].double()
        scores[JOINED][group] = joined(found[RESIDUE], found[INTENT], intent._require_state())
    batches = parts.calibration.split(parts.batch)
    scores[INTENT]["calibration, changed"] = torch.cat(
        [intent.benign_scores(x, seed=seed) for seed, x in enumerate(batches)]
    )
    x = parts.clean[: parts.batch]
    for name in (RESIDUE, INTENT):
        times[f"predict {name}"] = _least_time(detectors[name].predict, x)
    return scores, times


def _least_time(predict: Callable[[Tensor], Tensor], x: Tensor) -> float:
    return min(_times(predict, x))


def _times(predict: Callable[[Tensor], Tensor], x: Tensor) -> Iterable[float]:
    for _ in range(_REPEATS):
        start = time.process_time()
        predict(x)
        yield time.process_time() - start
