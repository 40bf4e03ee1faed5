"""
The benchmark from the command line: ``python -m pytorch_ood_viyog.benchmark --help``.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from pytorch_ood.api import Detector
from torch.nn import Module

from ..detectors.intent import ViyogIntent
from ..detectors.residue import ViyogResidue
from ..detectors.tv import ViyogTV
from ..detectors.viyog import Viyog
from ..evaluation.page import check_extra
from ..evaluation.rows import TASKS, mean_auroc
from ..images.benign import BENIGN_KINDS, BenignChange
from ..images.files import load_images, readable_images
from .attacks.named import ATTACK_NAMES, named_attack
from .baselines import BASELINES, baseline_detectors
from .benchmark import AdversarialBenchmark
from .data import first_images
from .evasion_command import evasion_main
from .model_names import add_model_arguments, asked_model

__all__ = ["FIRST_LAYER", "main"]

#: the detectors of this package that read the first layer, by name
FIRST_LAYER: dict[str, Callable[[Module], Detector]] = {
    "Viyog": partial(Viyog, bounded=False),  # the same ranks as bounded, but scores to look at
    "ViyogTV": ViyogTV,
    "ViyogResidue": ViyogResidue,
}
#: those that are asked for by name only, as their fit takes minutes on large images
_BY_NAME: dict[str, Callable[[Module], Detector]] = {"ViyogIntent": ViyogIntent}

_DESCRIPTION = """\
Measure how well detectors tell in-distribution, out-of-distribution and adversarial images of a
classifier apart. Images are folders or .npz files; tables and figures are written to --out.

  python -m pytorch_ood_viyog.benchmark --model resnet18 --id-test imagenet/val \\
      --id-train imagenet/train --ood textures=dtd/images --attacks pgd8 pgd2 fgsm8 \\
      --benign "white noise=8" JPEG=75

What a detector costs an attacker who knows it:

  python -m pytorch_ood_viyog.benchmark evasion --help
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """
    :param arguments: command line, without the name of the program; default is the real one
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["evasion"]:
        evasion_main(given[1:])
        return
    options = _parser().parse_args(given)
    try:
        bench, detectors = _prepare(options)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    rows = bench.evaluate(detectors, fit=True)
    files = [*bench.save(options.out), *(() if options.no_figures else bench.plot(options.out))]
    if options.report is not None:
        files.append(bench.report(options.report))
    for detector in detectors:
        own = [row for row in rows if row["Detector"] == detector]
        tasks = [*TASKS, *(["T4"] if options.benign else [])]
        means = (f"{t} {mean_auroc(r for r in own if r['Task'] == t):.3f}" for t in tasks)
        print(f"{detector:<18} mean AUROC: {', '.join(means)}")
    print("\n".join(str(file) for file in files))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytorch_ood_viyog.benchmark",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    add = parser.add_argument
    add(
        "--id-test",
        required=True,
        type=Path,
        metavar="PATH",
        help="ID images to measure on, a folder with one sub-folder a class or an .npz file",
    )
    add(
        "--id-train",
        type=Path,
        metavar="PATH",
        help="ID images to fit on; default: the training split of the .npz file of --id-test",
    )
    add("--ood", nargs="*", default=[], metavar="NAME=PATH", help="OOD images, several allowed")
    add(
        "--attacks",
        nargs="*",
        default=["fgsm8", "pgd8", "pgd2"],
        metavar="NAME",
        help=f"{', '.join(ATTACK_NAMES)}, N in 1/255; default: fgsm8 pgd8 pgd2",
    )
    add(
        "--benign",
        nargs="*",
        default=[],
        metavar="KIND=STRENGTH",
        help=f"benign changes that are no attack, e.g. 'white noise=8' JPEG=75; kinds are "
        f"{', '.join(BENIGN_KINDS)}",
    )
    add(
        "--detectors",
        nargs="+",
        metavar="NAME",
        help=f"default: all the model allows of {', '.join([*FIRST_LAYER, *BASELINES])}; "
        f"by name only: {', '.join(_BY_NAME)}",
    )
    add("--strict", action="store_true", help="stop at an image that cannot be read")
    add("--size", type=int, help="resize and crop to so many pixels; default: as they are")
    add("--limit", type=int, default=500, help="images per test set, default: 500")
    add("--fit-limit", type=int, default=5000, help="images to fit on, default: 5000")
    add("--batch-size", type=int, default=100, help="default: 100")
    add("--resamples", type=int, default=500, help="bootstrap resamples, default: 500")
    add("--seed", type=int, default=0, help="default: 0")
    add("--cache", type=Path, default=Path(".cache/benchmark"), help="default: .cache/benchmark")
    add(
        "--out",
        type=Path,
        default=Path("output/benchmark"),
        metavar="PATH",
        help="where to, without suffix; default: output/benchmark",
    )
    add("--report", type=Path, metavar="FILE", help="one HTML page as well, with its pictures")
    add("--no-figures", action="store_true", help="tables only; figures need matplotlib")
    return parser


def _prepare(options: argparse.Namespace) -> tuple[AdversarialBenchmark, dict[str, Detector]]:
    _check_names(options.detectors)
    if options.report is not None:
        check_extra()
    if options.id_train is None and options.id_test.is_dir():
        raise ValueError("--id-train is needed to fit detectors, as --id-test is a folder.")
    attacks = {name: named_attack(name) for name in options.attacks}
    benign = [_change(text) for text in options.benign]
    ood = dict(_name_and_path(text) for text in options.ood)
    size, limit = options.size, options.limit
    # one .npz file with a split, or two separate paths
    parts = ("train", "test") if options.id_train is None else ("", "")
    # files first: weights take long to fetch
    strict, train = options.strict, options.id_train or options.id_test
    sets = {n: readable_images(load_images(p, size, limit), strict=strict) for n, p in ood.items()}
    id_test = readable_images(load_images(options.id_test, size, limit, parts[1]), strict=strict)
    fit = load_images(train, size, options.fit_limit, parts[0])
    id_train = readable_images(fit, strict=strict)
    model = asked_model(options)
    bench = AdversarialBenchmark(
        model,
        id_test,
        sets,
        attacks,
        id_train=id_train,
        benign=benign,
        cache=options.cache,
        batch_size=options.batch_size,
        resamples=options.resamples,
        seed=options.seed,
    )
    x, _ = first_images(bench.id_test, 2)
    return bench, _detectors(model, x.to(options.device), options.detectors)


def _change(text: str) -> BenignChange:
    kind, _, strength = text.partition("=")
    try:
        number = float(strength)
    except ValueError as error:
        raise ValueError(
            f"--benign takes KIND=STRENGTH, such as 'white noise=8', got {text!r}."
        ) from error
    return BenignChange(kind, number)


def _check_names(names: Sequence[str] | None) -> None:
    known = [*FIRST_LAYER, *_BY_NAME, *BASELINES]
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(f"There is no detector named {unknown}; names are {', '.join(known)}.")


def _detectors(model: Module, x: torch.Tensor, names: Sequence[str] | None) -> dict[str, Detector]:
    first_layer = [name for name in FIRST_LAYER if names is None or name in names]
    others = None if names is None else [name for name in names if name in BASELINES]
    found = {name: FIRST_LAYER[name](model) for name in first_layer}
    found |= {name: make(model) for name, make in _BY_NAME.items() if name in (names or ())}
    return found | ({} if others == [] else baseline_detectors(model, x, others))


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else (Path(text).stem, Path(text))


if __name__ == "__main__":
    main()
