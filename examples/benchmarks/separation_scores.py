"""What the separation benchmark measures: images, fitted detectors and their scores, cached.

A configuration's scores are stored under ``CACHE/separation`` with a hash of what they depend
on: the sources that are in use, the classifier's weights and the images. A change in any of them
scores anew.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from images import NATURAL_OOD, Images, fit_images, test_images
from prepare import CONFIGS, load_attack, load_model, load_ood
from sources import key as source_key
from sources import stored
from torch import Tensor, nn
from tqdm import tqdm

from pytorch_ood_viyog.benchmark.attacks.craft import AdversarialExamples
from pytorch_ood_viyog.detectors.residue import ViyogResidue
from pytorch_ood_viyog.detectors.tv import ViyogTV
from pytorch_ood_viyog.detectors.viyog import Viyog

_BATCH = 100

Score = Callable[[Tensor], Tensor]
# scores by detector and then by images: ``id``, ``adv/ATTACK``, ``ood/SET``
Scores = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Setting:
    """
    :param name: a key of ``prepare.CONFIGS``
    :param model: its classifier
    :param fit: images that detectors are fitted on
    :param test: images that are attacked, disjoint from ``fit``
    :param clean: ID images to measure on, disjoint from ``fit``
    :param adv: successful examples of each attack
    :param ood: OOD images by set
    """

    name: str
    model: nn.Module
    fit: Images
    test: Images
    clean: Tensor
    adv: dict[str, AdversarialExamples]
    ood: dict[str, Tensor]

    @property
    def natural(self) -> tuple[str, ...]:
        """Names of the OOD sets that are not noise images."""
        return NATURAL_OOD[CONFIGS[self.name].images]

    def batches(self) -> Iterable[Tensor]:
        """The fitting images, batch by batch."""
        return torch.split(self.fit.x, _BATCH)

    def groups(self) -> dict[str, Tensor]:
        """All images to score, by name."""
        adv = {f"adv/{attack}": examples.x for attack, examples in self.adv.items()}
        return {"id": self.clean} | adv | {f"ood/{name}": x for name, x in self.ood.items()}


def load_setting(name: str, data: Path, cache: Path, attacks: Iterable[str], n: int) -> Setting:
    """
    Loads a configuration; its classifier is trained and its attacks are crafted now as far as
    the cache does not hold them.

    :param name: a key of ``prepare.CONFIGS``
    :param data: data folder
    :param cache: cache folder
    :param attacks: keys of ``prepare.ATTACKS``
    :param n: number of test images that are attacked
    """
    model = load_model(name, data, cache)
    test = test_images(CONFIGS[name].images, data)
    return Setting(
        name=name,
        model=model,
        fit=fit_images(CONFIGS[name].images, data),
        test=test,
        # ID images that were not attacked, unless hardly any are left
        clean=(test[n:] if len(test) >= 2 * n else test).x,
        adv={a: load_attack(name, a, model, test, cache, n) for a in attacks},
        ood=load_ood(name, data),
    )


def fitted(setting: Setting) -> dict[str, Score]:
    """:return: the detectors, fitted; the published method is ViyogTV, as tests compare"""
    kinds = (ViyogResidue, ViyogTV, Viyog)
    return {kind.__name__: kind(setting.model).fit(setting.batches()) for kind in kinds}


def score_all(score: Score, x: Tensor) -> Tensor:
    """:return: the scores of images (N, ...), computed in batches, float64"""
    return torch.cat([torch.as_tensor(score(part)).double() for part in torch.split(x, _BATCH)])


def load_scores(setting: Setting, cache: Path, fresh: bool) -> Scores:
    """
    :param setting: the images and the classifier
    :param cache: cache folder
    :param fresh: score anew even if the cache holds the scores
    :return: the scores of all images by all detectors
    """

    def compute() -> Scores:
        groups = setting.groups()
        return {
            detector: {name: score_all(score, x) for name, x in groups.items()}
            for detector, score in tqdm(fitted(setting).items(), desc=f"score {setting.name}")
        }

    return stored(cache / "separation" / f"{setting.name}.pt", key(setting), fresh, compute)


def key(setting: Setting) -> str:
    """:return: a hash of the sources, the classifier and the images"""
    images = setting.groups() | {"fit": setting.fit.pixels}
    return source_key(__file__, setting.model, images)
