"""Attacks on a pretrained classifier, cached, and the scores that detectors give."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from foolbox import attacks as foolbox_attacks
from photographs import Photographs
from pytorch_ood import detector as ood_detectors
from pytorch_ood.api import Detector
from torch import Tensor, nn
from tqdm import tqdm

from pytorch_ood_viyog import SharedForward, Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark.attacks import AdversarialExamples, Attack, FoolboxAttack, craft
from pytorch_ood_viyog.benchmark.baselines import baseline_detectors
from pytorch_ood_viyog.detectors.residue_view import ResidueView

__all__ = [
    "CARLINI_WAGNER",
    "OURS",
    "Trial",
    "craft_all",
    "score_all",
    "shared_detectors",
]

OURS = ("ViyogResidue", "ResidueOutlier", "ViyogTV", "Viyog")
# confident enough to survive rounding, which undoes what a minimal attack finds at 224 pixels
CARLINI_WAGNER = FoolboxAttack(
    foolbox_attacks.L2CarliniWagnerAttack(
        binary_search_steps=2, steps=30, stepsize=0.01, confidence=5, initial_const=10
    )
)
# maps of more do not stay in the cache of a CPU
_BATCH = 50 if torch.cuda.is_available() else 5
_NEIGHBOURS = 10
#: of pytorch-ood, fed from the shared pass; a Mahalanobis distance without classes
_SHARED = ("MSP", "MaxLogit", "Energy", "GEN", "Mahalanobis", "kNN", "ViM")
#: runs by itself
_SEPARATE = "MultiMahalanobis"

Scores = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Trial:
    """
    :param attack: the attack
    :param share: share of the attacked images that it is run on; slow attacks run on fewer
    """

    attack: Attack
    share: float = 1.0


def craft_all(
    model: nn.Module, trials: Mapping[str, Trial], images: Tensor, cache: Path
) -> dict[str, AdversarialExamples]:
    """
    :param model: classifier of images in [0, 1]; its own answers are attacked
    :param trials: attacks by name
    :param images: (N, 3, H, W), clean
    :param cache: folder of finished batches: an interrupted run goes on where it stopped
    :return: the successful examples of each attack, rounded to 8 bit
    """
    answers = answers_of(model, images)
    found = {}
    for name, trial in trials.items():
        n = round(trial.share * len(images))
        part = images[:n], answers[:n]
        options = {"name": name, "batch_size": _BATCH, "cache": cache}
        found[name] = craft(model, trial.attack, *part, **options)
        size = found[name].size
        print(f"{name}: {size.succeeded} of {size.attacked} succeed", flush=True)
    return found


@torch.no_grad()
def answers_of(model: nn.Module, images: Tensor) -> Tensor:
    """:return: the classes that the model gives to images (N, 3, H, W), shape (N,)"""
    device = next(model.parameters()).device
    return torch.cat([model(x.to(device)).argmax(dim=1).cpu() for x in images.split(_BATCH)])


def shared_detectors(model: nn.Module, x: Tensor) -> SharedForward:
    """
    :param model: classifier with a last linear layer
    :param x: a few images
    :return: our detectors and eight of pytorch-ood's, not fitted yet
    """
    residue = ViyogResidue(model)
    ours: dict[str, Detector] = {
        "ViyogResidue": residue,
        "ResidueOutlier": ResidueView(residue, reading="outlier"),
        "ViyogTV": ViyogTV(model),
        "Viyog": Viyog(model),
    }
    theirs = baseline_detectors(model, x, [*_SHARED, _SEPARATE])
    theirs["kNN"] = ood_detectors.KNN(None, k=_NEIGHBOURS)
    return SharedForward(model, ours | theirs, separate=[_SEPARATE])


def score_all(model: nn.Module, photographs: Photographs, groups: Mapping[str, Tensor]) -> Scores:
    """
    Fits all detectors to the photographs for it and scores images, in one pass each. There are no
    labels, and a handful of images for a thousand classes: all have class 0 for detectors that
    model classes.

    :param groups: images by name
    :return: detector -> name of the images -> scores, float64
    """
    pipeline = shared_detectors(model, photographs.fit[:2])
    unlabelled = torch.zeros(_BATCH, dtype=torch.long)
    pipeline.fit([(x, unlabelled[: len(x)]) for x in photographs.fit.split(_BATCH)])
    scores: Scores = {name: {} for name in pipeline.detectors}
    for group, images in tqdm(groups.items(), desc="score"):
        found = pipeline.score(images.split(_BATCH), progress=False)
        for name in scores:
            scores[name][group] = found[name].double()
    return scores
