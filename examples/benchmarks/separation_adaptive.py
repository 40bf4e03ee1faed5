"""An attacker who knows the detector: PGD on cross-entropy minus a weighted detector score.

The detectors' public methods run without gradients. Their mathematics is differentiable, so the
attack calls the private ``_score`` on maps that it takes from a forward pass of its own. Viyog
goes without its bounded transform, which changes no rank but flattens the gradient.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pandas import DataFrame
from separation_controls import Row, halves, threshold
from separation_report import markdown
from separation_scores import Setting, key, score_all, stored
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from pytorch_ood_viyog.benchmark.attacks.craft import round_to_8_bit
from pytorch_ood_viyog.detectors.base import FirstLayerDetector
from pytorch_ood_viyog.detectors.residue import ViyogResidue
from pytorch_ood_viyog.detectors.tv import ViyogTV
from pytorch_ood_viyog.detectors.viyog import Viyog
from pytorch_ood_viyog.evaluation.metrics import viyog_metrics

WEIGHTS = (0.1, 1.0, 10.0)
NOBODY = "nothing"  # the attacker who knows no detector
_BUDGET = 8 / 255
_STEP = 0.25 / 255
_OOD_IMAGES = 200


@dataclass(frozen=True)
class Knowledge:
    """
    What the attacker knows of a detector: its score, standardised on ID, and the threshold of
    5 % false positives on the same scale.

    :param detector: a fitted detector
    :param centre: mean ID score
    :param spread: standard deviation of ID scores
    :param limit: what scores above it is taken for ADV
    """

    detector: FirstLayerDetector
    centre: float
    spread: float
    limit: float

    @staticmethod
    def of(detector: FirstLayerDetector, id_images: Tensor) -> "Knowledge":
        """:param id_images: clean images for the standardisation and the threshold"""
        scores = score_all(detector.predict, id_images)
        centre, spread = float(scores.mean()), float(scores.std())
        return Knowledge(detector, centre, spread, (threshold(scores) - centre) / spread)

    def __call__(self, maps: Tensor) -> Tensor:
        """:return: standardised scores of first-layer maps, with a gradient"""
        scores = self.detector._score(maps, self.detector._require_state())
        return (scores - self.centre) / self.spread

    def scores(self, x: Tensor) -> Tensor:
        """:return: standardised scores of images, by the detector's public method"""
        return (score_all(self.detector.predict, x) - self.centre) / self.spread


def forward(model: nn.Module, layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """:return: logits, and the output of ``layer`` in the same pass"""
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        return model(x), outputs[0]
    finally:
        handle.remove()


def attack(
    model: nn.Module, known: Knowledge, x: Tensor, y: Tensor, weight: float, steps: int
) -> Tensor:
    """
    PGD in the L∞ ball of 8/255, from the clean image in steps that shrink from 0.25/255 to 0:
    larger steps leave a residue of their own, which the attacker wants to avoid. Model and
    detector see what an 8-bit file would hold; gradients pass through the rounding as if it were
    not there. Both gradients are scaled to length 1 for each image, so that the weight means the
    same for every detector. Of all steps at which an image is misclassified, the one of the
    lowest score is kept; with ``weight`` 0, an attacker who does not know the detector, the last.

    :param x: images in [0, 1], correctly classified
    :param weight: of the score against cross-entropy
    :return: attacked images, rounded to 8 bit
    """
    layer = model.get_submodule(str(known.detector.layer_name))
    attacked = best = x
    lowest = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for step in range(steps + 1):
        attacked = attacked.detach().clamp(0, 1).requires_grad_()
        rounded = attacked + (round_to_8_bit(attacked) - attacked).detach()
        logits, maps = forward(model, layer, rounded)
        scores = known(maps).double()
        better = (logits.argmax(1) != y) & (scores < lowest)
        keep = better if weight else torch.ones_like(better)
        best = torch.where(keep[:, None, None, None], rounded.detach(), best)
        lowest = torch.where(keep, scores.detach(), lowest)
        loss = functional.cross_entropy(logits, y, reduction="sum")
        direction = _unit_gradient(loss, attacked)
        if weight:
            direction = direction - weight * _unit_gradient(scores.sum(), attacked)
        size = _STEP * (1 - step / (steps + 1))
        moved = attacked.detach() + size * direction.sign()
        attacked = torch.minimum(torch.maximum(moved, x - _BUDGET), x + _BUDGET)
    return round_to_8_bit(best)


def _unit_gradient(value: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
    return functional.normalize(gradient.flatten(1), dim=1).view_as(x)


def adaptive_rows(setting: Setting, n: int, steps: int, cache: Path, fresh: bool) -> list[Row]:
    """
    :param setting: images and classifier
    :param n: number of images attacked
    :param steps: steps of the attack
    :param cache: cache folder, where attacked images are kept
    :param fresh: attack anew even if the cache holds the images
    :return: a row for each detector that the attacker knows, weight, and detector that looks on
    """
    model = setting.model.requires_grad_(False)
    for_threshold, id_images = halves(setting)
    detectors = _knowledge(setting, for_threshold)
    negatives = {
        name: [known.scores(id_images)]
        + [known.scores(setting.ood[ood][:_OOD_IMAGES]) for ood in setting.natural]
        for name, known in detectors.items()
    }
    x, y = setting.test.x[:n], setting.test.y[:n]
    correct = model(x).argmax(1) == y
    x, y = x[correct], y[correct]
    own_key = key(setting, Path(__file__).read_text(encoding="utf-8"), n, steps)
    runs = [(NOBODY, 0.0), *((name, weight) for name in detectors for weight in WEIGHTS)]
    rows = []
    for victim, weight in tqdm(runs, desc=f"adaptive {setting.name}"):
        known = detectors.get(victim, detectors["Viyog"])
        path = cache / "separation" / f"{setting.name}-adaptive-{victim}-{weight:g}.pt"
        compute = partial(attack, model, known, x, y, weight, steps)
        attacked = stored(path, own_key, fresh, compute)
        success = model(attacked).argmax(1) != y
        change = 255 * (attacked - x)[success]
        for name, looking in detectors.items():
            scores = looking.scores(attacked[success]) if success.any() else torch.empty(0)
            caught = int((scores > looking.limit).sum())
            row: Row = {
                "config": setting.name,
                "attacker knows": victim,
                "weight": weight,
                "detector": name,
                "attacked": len(x),
                "succeeded": len(scores),
                "rms": float(change.square().mean().sqrt()),
                "detected": caught / max(1, len(scores)),
                "evaded": (len(scores) - caught) / len(x),
            }
            rows.append(row | _separation(negatives[name], scores))
    return rows


def _knowledge(setting: Setting, for_threshold: Tensor) -> dict[str, Knowledge]:
    detectors = {
        "ViyogResidue": ViyogResidue(setting.model),
        "ViyogTV": ViyogTV(setting.model),
        "Viyog": Viyog(setting.model, bounded=False),
    }
    return {
        name: Knowledge.of(detector.fit(setting.batches()), for_threshold)
        for name, detector in detectors.items()
    }


def _separation(negatives: list[Tensor], adv: Tensor) -> Row:
    if len(adv) == 0:
        return {"AUROC ID-vs-ADV": float("nan"), "AUROC OOD-vs-ADV": float("nan")}
    against_id, *against_ood = (float(viyog_metrics(n, adv)["AUROC"]) for n in negatives)
    return {
        "AUROC ID-vs-ADV": against_id,
        "AUROC OOD-vs-ADV": sum(against_ood) / len(against_ood),
    }


def adaptive_report(rows: DataFrame) -> str:
    """
    :param rows: rows of ``separation_adaptive.csv``
    :return: the report
    """
    names = list(rows["detector"].unique())
    lines = [["configuration", "detector", "weight", "success", "RMS/255", "detected"]]
    lines[0] += ["evaded", "ID-vs-ADV", "OOD-vs-ADV"]
    for config in rows["config"].unique():
        for name in names:
            own = rows["attacker knows"].isin([NOBODY, name]) & (rows["detector"] == name)
            for _, row in rows[own & (rows["config"] == config)].iterrows():
                knows = row["attacker knows"] != NOBODY
                lines.append(
                    [
                        config,
                        name,
                        f"{row['weight']:g}" if knows else "0",
                        f"{row['succeeded'] / row['attacked']:.0%}",
                        f"{row['rms']:.1f}",
                        f"{row['detected']:.0%}",
                        f"{row['evaded']:.0%}",
                        f"{row['AUROC ID-vs-ADV']:.3f}",
                        f"{row['AUROC OOD-vs-ADV']:.3f}",
                    ]
                )
    return "\n\n".join(
        [
            "# An attacker who knows the detector",
            "Made by `python examples/benchmarks/separation.py --data DATA_FOLDER --part "
            "adaptive`. PGD of 80 small steps at 8/255 that climbs cross-entropy minus weight × "
            "the detector's score (gradients of length 1 for each image); images are rounded to "
            "8 bit in every step. Of all steps that fool the classifier, the attacker keeps the "
            "one of the lowest score; weight 0 does not know the detector. *Success*: share of "
            "the attacked images that the classifier gets wrong. *Detected*: share of the "
            "successes above the threshold of 5 % false positives on clean ID. *Evaded*: share of "
            "the attacked images that fool the classifier and stay below it. The CSV file also "
            "says what the detectors make of attacks on each other.",
            markdown(lines),
            _conclusion(rows),
        ]
    )


def _conclusion(rows: DataFrame) -> str:
    """What fails, from the numbers: the strongest attack on each detector."""
    own = rows[rows["attacker knows"] == rows["detector"]]
    lines = ["The strongest attack on each detector:\n"]
    for (config, name), of_detector in own.groupby(["config", "detector"], sort=False):
        row = of_detector.loc[of_detector["evaded"].idxmax()]
        lines.append(
            f"- {config}, {name}: {row['evaded']:.0%} of the images fool the classifier "
            f"unnoticed (weight {row['weight']:g}), AUROC OOD-vs-ADV "
            f"{row['AUROC OOD-vs-ADV']:.3f}."
        )
    return "\n".join(lines) + "\n"
