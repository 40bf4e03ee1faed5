"""What the benchmark of the second look measures: detectors, scores, second answers.

A configuration's results are stored under ``CACHE/second_look`` with a hash of what they depend
on, group by group: an interrupted run goes on where it stopped.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from second_look_images import Material
from sources import key as source_key
from sources import stored
from torch import Tensor
from tqdm import tqdm

from pytorch_ood_viyog import SecondLook, SharedForward, ViyogResidue
from pytorch_ood_viyog.benchmark.baselines import FeatureSqueezing, NoiseStability

BASELINES = ("FeatureSqueezing", "NoiseStability")
_BATCH = 50

# by name: scores, whether answers change, are right, overrule, stand and are right
Found = dict[str, Tensor]


@dataclass(frozen=True)
class Answers:
    """
    :param groups: group -> what was found for its images, by name
    :param choice: purifier, strength in 1/255 and flips that SecondLook chose
    """

    groups: dict[str, Found]
    choice: dict[str, object]


@dataclass(frozen=True)
class Judges:
    """Fitted detectors of one configuration."""

    look: SecondLook
    pipeline: SharedForward
    baselines: dict[str, SharedForward]


def load_answers(material: Material, cache: Path, baselines: bool, fresh: bool) -> Answers:
    """
    :param material: model and images
    :param cache: cache folder
    :param baselines: whether the baselines are scored too, which takes twice the time
    :param fresh: compute anew even if the cache holds the results
    :return: scores and second answers
    """
    folder, digest = cache / "second_look" / material.name, key(material, baselines)
    fitted: list[Judges] = []

    def judges() -> Judges:
        if not fitted:
            fitted.append(fitted_judges(material, baselines))
        return fitted[0]

    def one(name: str, compute: Callable[[], dict[str, object]]) -> dict[str, object]:
        return stored(folder / f"{name.replace('/', '-')}.pt", digest, fresh, compute)

    settings = one("settings", lambda: _settings(judges()))
    groups = {
        group: one(group, lambda group=group: _found(judges(), material, group))
        for group in tqdm(material.groups, desc=material.name)
    }
    return Answers(groups, **settings)


def fitted_judges(material: Material, baselines: bool) -> Judges:
    """
    :return: detectors fitted to the images for it, the look to images that the model was not
        trained on, and calibrated on further ones
    """
    model = material.model
    fit = material.batches(material.fit)
    calibration = material.batches(material.calibration)
    residue = ViyogResidue(model).fit(fit, progress=False)
    look = SecondLook(model, residue=residue, pixel_range=(0.0, 1.0))
    look.fit(material.batches(material.look), progress=False)
    look.calibrate(calibration, progress=False)
    return Judges(
        look,
        SharedForward(model, {"ViyogResidue": residue}),
        {
            each: SharedForward(model, {each: kind(model)})
            for each, kind in (zip(BASELINES, (FeatureSqueezing, NoiseStability), strict=True))
            if baselines
        },
    )


def _found(judges: Judges, material: Material, group: str) -> Found:
    parts = torch.split(material.groups[group], _BATCH)
    labels = material.labels.get(group.removeprefix("adv/"))
    found = _joined(_scored(judges, part) for part in parts)
    if labels is not None:
        found["right"] = found["second"] == labels
        found["stands and is right"] = found["right"] & found["overruled"]
    return found


@torch.no_grad()
def _scored(judges: Judges, x: Tensor) -> Found:
    found: Found = judges.pipeline.predict(x, logits=True)
    compared = judges.look.compare(x, found.pop("logits"))
    found["SecondLook"] = compared.scores
    for name, baseline in judges.baselines.items():
        found[name] = baseline.predict(x)[name]
    return found | {
        "changed": compared.changed,
        "overruled": compared.overruled,
        "second": compared.second.argmax(dim=1),
    }


def _joined(parts: Iterable[Found]) -> Found:
    found = list(parts)
    return {name: torch.cat([part[name].cpu() for part in found]) for name in found[0]}


def _settings(judges: Judges) -> dict[str, object]:
    chosen = judges.look.choice
    return {
        "choice": {
            "purifier": chosen.purifier,
            "strength": chosen.strength * 255,
            "flips": chosen.flips,
            "least": float(judges.look.fitted.known.least),
        }
    }


def key(material: Material, *more: object) -> str:
    """
    :param more: further things that a result depends on, by their ``str``
    :return: a hash of the sources in use, the classifier and the images
    """
    parts = {"fit": material.fit, "look": material.look, "calibration": material.calibration}
    return source_key(__file__, material.model, parts | material.groups, *more)
