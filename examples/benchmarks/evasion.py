"""What a detector costs an attacker who knows everything, on the benchmark's small classifiers.

.. code-block:: bash

    python examples/benchmarks/evasion.py --data DATA_FOLDER

Writes ``evasion.md`` (tables), ``evasion.csv`` (every share) and ``evasion.png`` (the curves).
Classifiers are trained where the cache folder does not hold them. Finished batches of attacks are
kept there too: an interrupted run goes on where it stopped.
"""

import argparse
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pandas
import torch
from images import fit_images, test_images
from options import benchmark_parser
from prepare import CONFIGS, load_model
from pytorch_ood.api import Detector
from torch import Tensor, nn

from pytorch_ood_viyog import Triage, ViyogResidue
from pytorch_ood_viyog.benchmark import Evasion, evasion
from pytorch_ood_viyog.benchmark.evasion.plot import plot_accepted
from pytorch_ood_viyog.looks import SecondLook
from pytorch_ood_viyog.triage import Fused

MODELS = ("gtsrb-3x3", "cifar10-3x3", "photo15-3x3")
_CALIBRATED = 500
_CHECKED = 6
# small: what is finished is kept
_BATCH = 8

#: ID samples
Batches = list[tuple[Tensor, Tensor]]


def residue(model: nn.Module, fit: Batches, held: Batches) -> Detector:
    """:return: the detector to recommend, alone"""
    return ViyogResidue(model).fit(fit)


def triage(model: nn.Module, fit: Batches, held: Batches) -> Triage:
    """:return: it and Energy, with verdicts"""
    return Triage(None, ViyogResidue(model)).fit(fit, held)


def triage_looking_twice(model: nn.Module, fit: Batches, held: Batches) -> Triage:
    """:return: the same with a second look at every sample"""
    look = SecondLook(None)
    made = Triage(None, ViyogResidue(model), confirm=look, confirm_when="always")
    return made.fit(fit, held)


def fused(model: nn.Module, fit: Batches, held: Batches) -> Detector:
    """:return: residue and second look as one score"""
    parts = {"residue": ViyogResidue(None), "look": SecondLook(None)}
    return Fused(model, parts).fit(fit)


def second_look(model: nn.Module, fit: Batches, held: Batches) -> Detector:
    """:return: how much the model's answer hangs on the residue, alone"""
    return SecondLook(model).fit(fit)


SYSTEMS: dict[str, Callable[[nn.Module, Batches, Batches], Detector | Triage]] = {
    "ViyogResidue": residue,
    "Triage": triage,
    "Triage, SecondLook always": triage_looking_twice,
    "SecondLook": second_look,
    "Fused (residue, look)": fused,
}


def batches(x: Tensor) -> Batches:
    """:return: images in batches, as ID samples"""
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in torch.split(x, 100)]


def attack(name: str, arguments: argparse.Namespace) -> Evasion:
    """:return: what evading the systems on a configuration's classifier costs"""
    images = CONFIGS[name].images
    model = load_model(name, arguments.data, arguments.cache)
    fit, test = fit_images(images, arguments.data), test_images(images, arguments.data)
    held = test.x[arguments.n :][:_CALIBRATED]
    return evasion(
        {s: SYSTEMS[s](model, batches(fit.x), batches(held)) for s in arguments.systems},
        test.x[: arguments.n],
        test.y[: arguments.n],
        calibration=held,
        steps=arguments.steps,
        checks=_CHECKED,
        batch_size=_BATCH,
        cache=arguments.cache / "evasion" / name,
    )


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=MODELS)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--n", type=int, default=24, help="images each, default: 24")
    parser.add_argument("--steps", type=int, default=20, help="steps of an attack, default: 20")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Evasion] = {}
    for name in arguments.configs:
        start = time.perf_counter()
        found[name] = attack(name, arguments)
        print(f"{found[name].table(name)}\n{time.perf_counter() - start:.0f} s", flush=True)
        write(found, arguments.out)


def write(found: dict[str, Evasion], out: Path) -> None:
    """
    :param found: configuration -> what was found
    :param out: folder for tables and figure
    """
    rows = [{"config": name, **row} for name, each in found.items() for row in each.rows()]
    pandas.DataFrame(rows).to_csv(out / "evasion.csv", index=False, float_format="%.4g")
    watching = list(next(iter(found.values())).systems)[1:]
    options = f"--configs {' '.join(found)} --systems {shlex.join(watching)}"
    command = f"Made by `python examples/benchmarks/evasion.py --data DATA_FOLDER {options}`."
    tables = [each.table(name).replace("# ", "## ", 1) for name, each in found.items()]
    text = "\n".join([f"# The price of evasion\n\n{command}\n", *tables])
    (out / "evasion.md").write_text(text, encoding="utf-8")
    curves = {
        name: (each.budgets, {s: list(each.accepted(s).values()) for s in each.systems})
        for name, each in found.items()
    }
    plot_accepted(curves, out / "evasion.png")


if __name__ == "__main__":
    main()
