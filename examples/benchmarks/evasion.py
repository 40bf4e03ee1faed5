"""What a detector costs an attacker who knows everything: small classifiers, one at 224 pixels.

.. code-block:: bash

    python examples/benchmarks/evasion.py --data DATA_FOLDER

Writes ``evasion_CONFIG.md`` (all tables of a configuration), ``evasion.md`` (an overview of all
configurations), ``evasion.csv`` (every share) and ``evasion.png`` (the curves). Small classifiers
are trained where the cache folder does not hold them; EfficientNet-Lite0 comes with its weights.
Finished batches of attacks are kept in the cache folder too: an interrupted run goes on where it
stopped. Rows of configurations that are not run now stay in the tables.
"""

import argparse
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from evasion_report import write
from images import fit_images, test_images
from options import benchmark_parser
from photographs import read_images, split_photographs
from prepare import CONFIGS, load_model
from pytorch_ood.api import Detector
from torch import Tensor, nn

from pytorch_ood_viyog import Triage, ViyogResidue
from pytorch_ood_viyog.benchmark import Evasion, evasion
from pytorch_ood_viyog.benchmark.evasion.attacks import ATTACKS
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.looks import SecondLook

MODELS = ("gtsrb-3x3", "cifar10-3x3", "photo15-3x3")
#: at 224 pixels, with weights from pip
LARGE = "efficientnet-lite0"
#: numbers on the command line, and what they are of
NUMBERS = {
    "n": (24, "images each"),
    "steps": (20, "steps of an attack"),
    "checks": (6, "images of the sanity checks"),
    "batch": (8, "images attacked together; what is finished is kept"),
}
_SIZE = 224
_FITTED, _ATTACKED = 150, 100
_CALIBRATED = 500

#: ID samples
Batches = list[tuple[Tensor, Tensor]]

#: what is fitted to ID images, some held back for the thresholds of a triage
SYSTEMS: dict[str, Callable[[nn.Module, Batches, Batches], Detector | Triage]] = {
    "ViyogResidue": lambda model, fit, held: ViyogResidue(model).fit(fit),
    "Triage": lambda model, fit, held: Triage(model).fit(fit, held),
    "Triage, look always": lambda model, fit, held: Triage(model, look="always").fit(fit, held),
    "SecondLook": lambda model, fit, held: SecondLook(model).fit(fit),
}


def batches(x: Tensor) -> Batches:
    """:return: images in batches, as ID samples"""
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in torch.split(x, 100)]


@dataclass(frozen=True)
class Material:
    """
    :param model: classifier of images in [0, 1]
    :param fit: ID images that detectors are fitted to
    :param held: further ones, which thresholds are set on
    :param attacked: further ones, which are attacked
    :param labels: of these; ``None`` where the classifier's own answers count as right
    """

    model: nn.Module
    fit: Tensor
    held: Tensor
    attacked: Tensor
    labels: Tensor | None


def material(name: str, n: int, data: Path, cache: Path) -> Material:
    """
    :param name: a key of ``prepare.CONFIGS``, or :data:`LARGE`
    :param n: number of images to attack
    :param data: data folder
    :param cache: cache folder
    :return: classifier and images
    """
    if name == LARGE:
        images = read_images(f"{data / 'photos224'}.npz:imagenet", _SIZE)
        parts = split_photographs(images, _FITTED, _ATTACKED)
        return Material(named_model(name), parts.fit, parts.test, parts.attacked[:n], None)
    images = CONFIGS[name].images
    fit, test = fit_images(images, data), test_images(images, data)
    model, held = load_model(name, data, cache), test.x[n:][:_CALIBRATED]
    return Material(model, fit.x, held, test.x[:n], test.y[:n])


def attack(name: str, arguments: argparse.Namespace) -> Evasion:
    """:return: what evading the systems on a configuration's classifier costs"""
    of = material(name, arguments.n, arguments.data, arguments.cache)
    of.model.to("cuda" if torch.cuda.is_available() else "cpu")
    known = batches(of.fit), batches(of.held)
    return evasion(
        {system: SYSTEMS[system](of.model, *known) for system in arguments.systems},
        of.attacked,
        of.labels,
        model=of.model,
        calibration=of.held,
        attacks=arguments.attacks,
        steps=arguments.steps,
        checks=arguments.checks,
        batch_size=arguments.batch,
        cache=arguments.cache / "evasion" / name,
    )


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--configs", nargs="+", choices=(*CONFIGS, LARGE), default=MODELS)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    for option, (default, meaning) in NUMBERS.items():
        parser.add_argument(f"--{option}", type=int, default=default, help=meaning)
    arguments = parser.parse_args()
    for name in arguments.configs:
        start = time.perf_counter()
        found = attack(name, arguments)
        print(f"{found.table(name)}\n{time.perf_counter() - start:.0f} s", flush=True)
        write(name, found, command(name, arguments), arguments.out)


def command(name: str, arguments: argparse.Namespace) -> str:
    """:return: the command that makes a configuration's tables"""
    options = f"--configs {name} --systems {shlex.join(arguments.systems)}"
    if arguments.attacks != list(ATTACKS):
        options += f" --attacks {' '.join(arguments.attacks)}"
    numbers = " ".join(f"--{each} {getattr(arguments, each)}" for each in NUMBERS)
    return f"python examples/benchmarks/evasion.py --data DATA_FOLDER {options} {numbers}"


if __name__ == "__main__":
    main()
