"""
The command ``evasion``: the price of evasion.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module

from ...detectors.residue import ViyogResidue
from ...detectors.tv import ViyogTV
from ...detectors.viyog import Viyog
from ...looks.second_look import SecondLook
from ...triage.triage import Triage
from ..baselines import BASELINES, baseline_detectors
from ..data import EightBit, as_dataset, first_images
from ..evasion import Evasion, evasion
from ..evasion.attacks import ATTACKS
from ..evasion.evasion import check_options
from ..model_names import asked_model
from .shared import Commands, command_parser, id_images

__all__ = ["add_evasion"]

Batches = list[tuple[Tensor, Tensor]]

_DESCRIPTION = """\
What does a detector cost an attacker who knows it?

Attacks a classifier with what watches over it at growing budgets. Images are folders or .npz
files; a table and a curve are written to --out.

  python -m pytorch_ood_viyog.benchmark evasion --model resnet18 --images imagenet/val \\
      --id-train imagenet/train --systems ViyogResidue Triage --limit 50
"""


#: detectors with a threshold of the share of alarms that is asked for
DETECTORS: dict[str, Callable[[Module], Detector]] = {
    "ViyogResidue": ViyogResidue,
    "ViyogTV": ViyogTV,
    "Viyog": lambda model: Viyog(model, bounded=False),
    "SecondLook": lambda model: SecondLook(model),
}
#: what sets thresholds by itself, with the same share of alarms
TRIAGES: dict[str, Callable[[Module, float], Triage]] = {
    "Triage": lambda model, share: Triage(model, id_fpr=share),
    "TriageAlways": lambda model, share: Triage(model, id_fpr=share, look="always"),
}


def add_evasion(commands: Commands) -> None:
    """:param commands: gets the command"""
    parser = command_parser(commands, "evasion", _DESCRIPTION, limit=100, batch_size=50)
    parser.set_defaults(work=_run)
    add = parser.add_argument
    add(
        "--images",
        required=True,
        type=Path,
        metavar="PATH",
        help="images to attack, a folder with one sub-folder a class or an .npz file",
    )
    names = [*DETECTORS, *TRIAGES, *BASELINES]
    add(
        "--systems",
        nargs="+",
        default=["ViyogResidue", "Triage"],
        metavar="NAME",
        help=f"{', '.join(names)}; default: ViyogResidue Triage",
    )
    add("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS, metavar="NAME")
    add(
        "--budgets",
        nargs="+",
        type=float,
        default=[1, 2, 3, 4, 6, 8, 16],
        help="in 1/255, ascending; default: 1 2 3 4 6 8 16",
    )
    add("--steps", type=int, default=40, help="gradient steps of an attack, default: 40")
    add("--restarts", type=int, default=1, help="runs of each attack, default: 1")
    add("--alarms", type=float, default=0.05, help="share of ID alarms, default: 0.05")


def _run(options: argparse.Namespace) -> None:
    found = _evasion(options)
    files = found.save(options.out, f"The price of evasion: {options.model}")
    if not options.no_figures:
        files.append(found.plot(options.out, options.model))
    print(found)
    print("\n".join(str(file) for file in files))


def _evasion(options: argparse.Namespace) -> Evasion:
    known = [*DETECTORS, *TRIAGES, *BASELINES]
    if unknown := [name for name in options.systems if name not in known]:
        raise ValueError(f"There is no system named {unknown}; names are {', '.join(known)}.")
    budgets = [steps / 255 for steps in options.budgets]
    counts = {name: getattr(options, name) for name in ("steps", "restarts", "batch_size")}
    check_options(budgets, options.attacks, options.alarms, **counts)
    attacked, train = id_images(options, options.images)
    model = asked_model(options)
    x, y = first_images(EightBit("--images", as_dataset("--images", attacked)), None)
    known_x, known_y = first_images(EightBit("--id-train", as_dataset("--id-train", train)), None)
    fit, held = ((known_x[i::2], known_y[i::2]) for i in (0, 1))
    return evasion(
        _systems(options, model, _batches(*fit, options.batch_size), held),
        x,
        None if options.own_labels else y,
        model=model,
        calibration=held[0],
        alarms=options.alarms,
        budgets=budgets,
        attacks=options.attacks,
        **counts,
        cache=options.cache,
        seed=options.seed,
    )


def _batches(x: Tensor, y: Tensor, size: int) -> Batches:
    return list(zip(torch.split(x, size), torch.split(y, size), strict=True))


def _systems(
    options: argparse.Namespace, model: Module, fit: Batches, held: tuple[Tensor, Tensor]
) -> dict[str, Detector | Triage]:
    others = [name for name in options.systems if name in BASELINES]
    sample = fit[0][0][:2].to(options.device)
    made = baseline_detectors(model, sample, others) if others else {}
    systems: dict[str, Detector | Triage] = {}
    for name in options.systems:
        if name in TRIAGES:
            triage = TRIAGES[name](model, options.alarms)
            systems[name] = triage.fit(fit, _batches(*held, options.batch_size))
            continue
        detector = made[name] if name in made else DETECTORS[name](model)
        systems[name] = detector.fit(fit) if detector.requires_fit else detector
    return systems
