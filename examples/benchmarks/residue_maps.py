"""Where a residue is, and alarms for attacks that are confined to a part of the image.

.. code-block:: bash

    python examples/benchmarks/residue_maps.py --data DATA_FOLDER

PGD of 8/255 that changes a quarter of the image, at a random place, and attacks on all of it, on
two of the classifiers of ``separation.py`` at 64 px and on EfficientNet-Lite0 at 224 px. Attacks
are kept in a cache folder: an interrupted run goes on where it stopped. Writes
``residue_maps.csv``, ``residue_maps.md`` and ``residue_maps.png``; numbers of models that are not
run stay.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from options import benchmark_parser
from photographs import read_images, split_photographs
from prepare import load_model
from pretrained_scores import Trial, craft_all
from residue_maps_report import draw, report
from separation_scores import load_setting
from tables import keep, save_page
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pytorch_ood_viyog import viyog_metrics
from pytorch_ood_viyog.benchmark.attacks import AdversarialExamples, craft
from pytorch_ood_viyog.benchmark.attacks.gradient import ConfinedPGD, TrainedPatch
from pytorch_ood_viyog.benchmark.attacks.named import named_attack
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.detectors import ResidueOutlier, ViyogResidue, ViyogResidueLocal

SMALL, LARGE = ("photo15-7x7", "photo15-8x8"), "efficientnet-lite0"
QUARTER = "quarter8"
CONFINED = {QUARTER: ConfinedPGD(8 / 255), "patch": TrainedPatch(steps=20)}
WHOLE = ("fgsm8", "pgd8", "pgd2")
_BATCH, _TIMED, _ROUNDS = 50, 16, 15


@dataclass(frozen=True)
class Case:
    """
    :param model: classifier
    :param fit: ID images that detectors are fitted on
    :param clean: ID images to measure on
    :param attacked: clean images that attacks started from
    :param adv: successful examples by attack
    :param ood: OOD images, of all natural sets
    """

    model: nn.Module
    fit: Tensor
    clean: Tensor
    attacked: Tensor
    adv: dict[str, AdversarialExamples]
    ood: Tensor


def small_case(name: str, data: Path, cache: Path, n: int) -> Case:
    """:return: a configuration of ``separation.py``"""
    setting = load_setting(name, data, cache, WHOLE, 400)
    model, test = load_model(name, data, cache), setting.test
    folder = cache / "attacks" / name
    confined = {
        attack: craft(model, how, test.x[:n], test.y[:n], name=attack, cache=folder)
        for attack, how in CONFINED.items()
    }
    ood = torch.cat([setting.ood[name][:100] for name in setting.natural])
    return Case(model, setting.fit.x, setting.clean[:400], test.x, confined | setting.adv, ood)


def large_case(name: str, data: Path, cache: Path) -> Case:
    """:return: a pretrained classifier on photographs of 224 px"""
    file = data / "photos224.npz"
    photographs = split_photographs(read_images(f"{file}:imagenet", 224), 150, 100)
    ood = torch.cat([read_images(f"{file}:{kind}", 224) for kind in ("mri", "aerial", "flowers")])
    model = named_model(name, None)
    trials = {
        attack: Trial(how, 1.0 if attack == QUARTER else 0.4) for attack, how in CONFINED.items()
    }
    trials |= {attack: Trial(named_attack(attack)) for attack in WHOLE}
    adv = craft_all(model, trials, photographs.attacked, cache / "attacks" / name)
    return Case(model, photographs.fit, photographs.test, photographs.attacked, adv, ood)


def measure(name: str, case: Case) -> tuple[list[dict[str, object]], ViyogResidueLocal]:
    """:return: rows of numbers, and the detector"""
    local = ViyogResidueLocal(case.model).fit(case.fit.split(_BATCH))
    residue = ViyogResidue(case.model).fit(case.fit.split(_BATCH))
    detectors: dict[str, Callable[[Tensor], Tensor]] = {
        "ViyogResidue": residue,
        "ViyogResidueLocal": local,
        "ResidueOutlier": ResidueOutlier(residue),
    }
    rows = [row(name, "time", kind, "", value) for kind, value in costs(case, residue, local)]
    quarter = case.adv[QUARTER]
    inside = changed_boxes(case.attacked[quarter.index], quarter.x)
    for kind, reading in (
        ("residue_map", residue.residue_map),
        ("evidence_map", local.evidence_map),
    ):
        each, pooled = pixel_auroc(in_batches(reading, quarter.x), inside)
        rows += [
            row(name, "pixels", kind, "each", each),
            row(name, "pixels", kind, "pooled", pooled),
        ]
    for kind, score in detectors.items():
        ids, oods = in_batches(score, case.clean), in_batches(score, case.ood)
        for attack, examples in case.adv.items():
            adv = in_batches(score, examples.x)
            for against, negatives in (("ID", ids), ("OOD", oods)):
                auroc = float(viyog_metrics(negatives, adv)["AUROC"])
                rows.append(row(name, against, kind, attack, auroc) | {"n": len(adv)})
    return rows, local


def row(case: str, task: str, what: str, attack: str, value: float) -> dict[str, object]:
    return {"model": case, "task": task, "what": what, "attack": attack, "value": value}


def in_batches(reading: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([reading(part) for part in x.split(_BATCH)]).double()


def changed_boxes(clean: Tensor, attacked: Tensor) -> Tensor:
    """:return: (N, H, W), whether a pixel is in the smallest box around all that changed"""
    changed = ((attacked - clean).abs() > 0.5 / 255).any(dim=1)
    boxes = torch.zeros_like(changed)
    for one, box in zip(changed, boxes, strict=True):
        rows, columns = (one.any(dim=axis).nonzero().flatten() for axis in (1, 0))
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return boxes


def pixel_auroc(maps: Tensor, inside: Tensor) -> tuple[float, float]:
    """:return: AUROC of pixels inside against outside, mean over images, and of all together"""
    size = tuple(inside.shape[1:])
    fine = interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    pairs = [(one[~box], one[box]) for one, box in zip(fine, inside, strict=True)]
    each = [float(viyog_metrics(*pair)["AUROC"]) for pair in pairs]
    return sum(each) / len(each), float(viyog_metrics(fine[~inside], fine[inside])["AUROC"])


def costs(case: Case, residue: ViyogResidue, local: ViyogResidueLocal) -> list[tuple[str, float]]:
    """:return: CPU time as multiple of ``ViyogResidue.predict`` in the same round, medians"""
    x = case.clean[:_TIMED]
    jobs = {"residue_map": residue.residue_map, "ViyogResidueLocal.predict": local.predict}
    ratios: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(_ROUNDS):
        whole = seconds(residue.predict, x)
        for name, job in jobs.items():
            ratios[name].append(seconds(job, x) / whole)
    return [(name, median(values)) for name, values in ratios.items()]


def seconds(job: Callable[[Tensor], Tensor], x: Tensor) -> float:
    start = time.process_time()
    job(x)
    return time.process_time() - start


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--cases", nargs="+", default=[*SMALL, LARGE], choices=[*SMALL, LARGE])
    parser.add_argument("--n", type=int, default=400, help="small images attacked, default: 400")
    parser.add_argument("--quick", action="store_true", help="the first case, 40 images")
    options = parser.parse_args()
    if options.quick:
        options.cases, options.n = options.cases[:1], 40
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.cases:
        if name == LARGE:
            case = large_case(name, options.data, options.cache)
        else:
            case = small_case(name, options.data, options.cache, options.n)
        rows, local = measure(name, case)
        text = report(keep(rows, options.out / "residue_maps.csv"))
        save_page(options.out / "residue_maps.md", text, __file__)
        print(text, flush=True)
        draw(local, case.clean, case.adv, options.out / "residue_maps.png")


if __name__ == "__main__":
    main()
