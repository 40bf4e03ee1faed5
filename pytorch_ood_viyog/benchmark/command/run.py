"""
The command ``run``: every detector on all tasks.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_ood.api import Detector
from torch.nn import Module
from torch.utils.data import DataLoader

from ...detectors.intent import ViyogIntent
from ...detectors.residue import ViyogResidue
from ...detectors.tv import ViyogTV
from ...detectors.viyog import Viyog
from ...evaluation.page import check_extra
from ...evaluation.rows import TASKS, mean_auroc
from ...images.benign import BENIGN_KINDS, BenignChange
from ...images.disk.corruptions import corruption_sets
from ...images.disk.files import load_images, readable_images
from ...triage import Verdict
from ...triage.triage import Triage
from ..attacks.named import ATTACK_NAMES, named_attack
from ..baselines import BASELINES, baseline_detectors
from ..benchmark import AdversarialBenchmark
from ..data import first_images
from ..model_names import asked_model, imported
from .shared import Commands, command_parser, id_images, own_labels

__all__ = ["FIRST_LAYER", "add_run"]

#: the detectors of this package that read the first layer, by name
FIRST_LAYER: dict[str, Callable[[Module], Detector]] = {
    "Viyog": partial(Viyog, bounded=False),  # the same ranks as bounded, but scores to look at
    "ViyogTV": ViyogTV,
    "ViyogResidue": ViyogResidue,
}
#: those that are asked for by name only, as their fit takes minutes on large images
_BY_NAME: dict[str, Callable[[Module], Detector]] = {"ViyogIntent": ViyogIntent}

_DESCRIPTION = """\
Measure how well detectors tell ID, OOD and adversarial images of a classifier apart.

Images are folders or .npz files; tables and figures are written to --out.

  python -m pytorch_ood_viyog.benchmark run --model resnet18 --id-test imagenet/val \\
      --id-train imagenet/train --ood textures=dtd/images --attacks pgd8 mine=my_attacks:fmn \\
      --benign "white noise=8" JPEG=75
"""


def add_run(commands: Commands) -> None:
    """:param commands: gets the command"""
    parser = command_parser(commands, "run", _DESCRIPTION, limit=500, batch_size=100)
    parser.set_defaults(work=_run)
    add = parser.add_argument
    measured = "ID images to measure on, a folder with one sub-folder a class or an .npz file"
    add("--id-test", required=True, type=Path, metavar="PATH", help=measured)
    add("--ood", nargs="*", default=[], metavar="NAME=PATH", help="OOD images, several allowed")
    attacks = (
        f"{', '.join(ATTACK_NAMES)}, N in 1/255, or NAME=module:attack for one of your own or of "
        f"another library; default: fgsm8 pgd8 pgd2"
    )
    add("--attacks", nargs="*", default=["fgsm8", "pgd8", "pgd2"], metavar="NAME", help=attacks)
    benign = (
        f"benign changes that are no attack, e.g. 'white noise=8' JPEG=75; kinds are "
        f"{', '.join(BENIGN_KINDS)}; or images that were changed: CIFAR-10-C, ImageNet-C"
    )
    add("--benign", nargs="*", default=[], metavar="KIND=STRENGTH or PATH", help=benign)
    detectors = (
        f"default: all the model allows of {', '.join([*FIRST_LAYER, *BASELINES])}; by name only: "
        f"{', '.join(_BY_NAME)}"
    )
    add("--detectors", nargs="+", metavar="NAME", help=detectors)
    add("--resamples", type=int, default=500, help="bootstrap resamples, default: 500")
    add("--min-images", type=int, default=10, help="of fewer nothing is said, default: 10")
    add("--verdicts", action="store_true", help="what a Triage says of all images, in a table")
    add("--report", type=Path, metavar="FILE", help="one HTML page as well, with its pictures")


def _run(options: argparse.Namespace) -> None:
    bench, detectors = _prepare(options)
    rows = bench.evaluate(detectors, fit=True)
    files = [*bench.save(options.out), *(() if options.no_figures else bench.plot(options.out))]
    triage = _triage(bench) if options.verdicts else None
    if triage is not None:
        for row in bench.verdicts(triage, options.out):
            shares = ", ".join(f"{verdict.name} {row[verdict.name]:.3f}" for verdict in Verdict)
            print(f"{row['Kind']:<5} {row['Images']:<24} {row['Count']:>6} images: {shares}")
        files.append(Path(f"{options.out}_verdicts.csv"))
    if options.report is not None:
        files.append(bench.report(options.report, triage=triage))
    print(f"clean accuracy {bench.clean_accuracy():.3f}")
    for detector in detectors:
        own = [row for row in rows if row["Detector"] == detector]
        tasks = [task for task in TASKS if task != "T4" or options.benign]
        means = (f"{t} {mean_auroc(r for r in own if r['Task'] == t):.3f}" for t in tasks)
        print(f"{detector:<18} mean AUROC: {', '.join(means)}")
    print("\n".join(str(file) for file in files))


def _triage(bench: AdversarialBenchmark) -> Triage:
    """Fitted, and calibrated on images to fit on: false alarms may exceed the rate that is set."""
    loader = DataLoader(bench.train_set(), bench.batch_size)
    return Triage(bench.model, seed=bench.seed).fit(loader)


def _prepare(options: argparse.Namespace) -> tuple[AdversarialBenchmark, Mapping[str, Detector]]:
    """What can be wrong is told before the model's weights are fetched."""
    known = [*FIRST_LAYER, *_BY_NAME, *BASELINES]
    if unknown := [name for name in options.detectors or () if name not in known]:
        raise ValueError(f"There is no detector named {unknown}; names are {', '.join(known)}.")
    if options.report is not None:
        check_extra()
    attacks = dict(_attack(text) for text in options.attacks)
    benign = {n: b for text in options.benign for n, b in _benign(text, options).items()}
    paths = dict(_name_and_path(text) for text in options.ood)
    id_test, id_train = id_images(options, options.id_test, labelled=bool(options.attacks))
    ood = {
        name: readable_images(
            load_images(path, options.size, options.limit, labelled=False), strict=options.strict
        )
        for name, path in paths.items()
    }
    model = asked_model(options)
    if options.own_labels:
        id_test, id_train = (
            own_labels(model, name, images, options.batch_size)
            for name, images in (("--id-test", id_test), ("--id-train", id_train))
        )
    bench = AdversarialBenchmark(
        model,
        id_test,
        ood,
        attacks,
        id_train=id_train,
        benign=benign,
        min_images=options.min_images,
        cache=options.cache,
        batch_size=options.batch_size,
        resamples=options.resamples,
        seed=options.seed,
    )
    x, _ = first_images(bench.id_test, 2)
    return bench, _detectors(model, x.to(options.device), options.detectors)


def _attack(text: str) -> tuple[str, Any]:
    name, equals, own = text.partition("=")
    return (name, imported("attack", own)) if equals else (name, named_attack(name))


def _benign(text: str, options: argparse.Namespace) -> dict[str, Any]:
    if Path(text).exists():
        sets = corruption_sets(text, options.size, options.limit)
        return {n: readable_images(s, strict=options.strict) for n, s in sets.items()}
    kind, _, strength = text.partition("=")
    try:
        number = float(strength)
    except ValueError as error:
        raise ValueError(
            f"--benign takes KIND=STRENGTH, such as 'white noise=8', got {text!r}, which is no "
            f"path to changed images either."
        ) from error
    change = BenignChange(kind, number)
    return {str(change): change}


def _detectors(model: Module, x: torch.Tensor, names: Sequence[str] | None) -> dict[str, Detector]:
    first_layer = [name for name in FIRST_LAYER if names is None or name in names]
    others = None if names is None else [name for name in names if name in BASELINES]
    found = {name: FIRST_LAYER[name](model) for name in first_layer}
    found |= {name: make(model) for name, make in _BY_NAME.items() if name in (names or ())}
    return found | ({} if others == [] else baseline_detectors(model, x, others))


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else (Path(text).stem, Path(text))
