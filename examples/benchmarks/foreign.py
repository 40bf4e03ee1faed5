"""Other people's attacks on a small classifier: what runs, what survives rounding, who sees it.

.. code-block:: bash

    python examples/benchmarks/foreign.py --data DATA_FOLDER

More than 100 attacks of foolbox, torchattacks, ART, adv-lib and secml-torch, whichever are
installed (the guide page "Attacks of other libraries" says how), each with few steps and stopped
after ``--seconds`` of CPU. Attacked images and scores are kept in the cache folder as they come:
a run that is stopped goes on where it was. What failed is not tried again before the folder
``foreign/failed`` of the cache is deleted.
"""

import contextlib
import io
import math
import platform
import signal
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from foreign_list import LIBRARIES, foreign_attacks
from images import CLASSES, Images, fit_images, test_images, train_images
from models import convolution
from options import benchmark_parser
from prepare import load_ood
from pytorch_ood.detector import MaxSoftmax
from torch import Tensor, nn

from pytorch_ood_viyog import ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.attacks import AttackSize
from pytorch_ood_viyog.benchmark.baselines import FeatureSqueezing
from pytorch_ood_viyog.looks import SecondLook

_ALARMS = 0.05
_OOD = ("aerial", "handsign")
_IMAGES = "gtsrb"


class Limited:
    """
    An attack that is stopped after some seconds of CPU, whose prints are not shown, and that is
    not tried again where it failed.
    """

    def __init__(self, attack: Any, seconds: float, failed: Path) -> None:
        self.attack = attack
        self.seconds = seconds
        self._failed = failed

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        if self._failed.exists():
            raise RuntimeError(self._failed.read_text(encoding="utf-8"))
        try:
            return self._run(model, x, y)
        except Exception as error:
            self._failed.parent.mkdir(parents=True, exist_ok=True)
            self._failed.write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
            raise

    def _run(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        def stop(*_: object) -> None:
            raise TimeoutError(f"over {self.seconds:g} s of CPU, stopped")

        before = signal.signal(signal.SIGVTALRM, stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return self.attack(model, x, y)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)


def classifier(options: Any) -> nn.Module:
    """:return: three convolutions, so that 130 attacks take minutes; trained at first"""
    model = nn.Sequential(
        *convolution(3, 16),
        nn.MaxPool2d(2),
        *convolution(16, 32),
        nn.MaxPool2d(2),
        *convolution(32, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES[_IMAGES]),
    )
    path = options.cache / "models" / "foreign.pt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(trained(model, train_images(_IMAGES, options.data)).state_dict(), path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def trained(model: nn.Module, data: Images, epochs: int = 8) -> nn.Module:
    """:return: the model, trained in float32, as bfloat16 is slow where the CPU lacks it"""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(data)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data[index].x), data.y[index]).backward()
            optimizer.step()
    return model


def evaluated(options: Any) -> tuple[AdversarialBenchmark, dict[str, str]]:
    """:return: the benchmark, evaluated, and what could not be made"""
    cache = options.cache / "foreign"
    model = classifier(options)
    fit, test = fit_images(_IMAGES, options.data), test_images(_IMAGES, options.data)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: options.test]
    everything = load_ood("gtsrb-3x3", options.data)
    made, problems = foreign_attacks(model, test.x.shape[1:], CLASSES[_IMAGES])
    bench = AdversarialBenchmark(
        model,
        (test.x[order], test.y[order]),
        {name: everything[name][: options.test] for name in _OOD},
        {
            name: Limited(attack, options.seconds, cache / "failed" / f"{name}.txt")
            for name, attack in made.items()
        },
        id_train=(fit.x[: options.fit], fit.y[: options.fit]),
        attacked=options.attacked,
        min_images=5,
        resamples=0,
        cache=cache,
    )
    detectors = {
        "ViyogTV": ViyogTV(model),
        "ViyogResidue": ViyogResidue(model),
        "SecondLook": SecondLook(model),
        "FeatureSqueezing": FeatureSqueezing(model),
        "MSP": MaxSoftmax(model),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each failure is a row
        bench.evaluate(detectors, fit=True)
    return bench, problems


def caught(bench: AdversarialBenchmark, detector: str, attack: str) -> float:
    """:return: share of an attack's successes above what 95 % of the ID images score"""
    own = bench.scores[detector]
    known, found = own["ID"], own.get(attack)
    if not isinstance(known, Tensor) or not isinstance(found, Tensor):
        return math.nan
    limit = known.double().quantile(1 - _ALARMS, interpolation="higher")
    return float((found > limit).double().mean())


def table(bench: AdversarialBenchmark, sizes: Mapping[str, AttackSize]) -> list[str]:
    """:return: lines of Markdown, the attack that the best detector sees least first"""
    detectors = list(bench.detectors)
    auroc = {(r["Detector"], r["Attack"]): r["AUROC"] for r in bench.rows if r["Task"] == "T2"}
    best = {a: max(auroc[d, a] for d in detectors) for a in sizes}
    order = sorted(sizes, key=lambda a: (math.isnan(best[a]), best[a]))
    head = ["attack", "fooled", "after rounding", "L2", "L∞", "pixels"]
    head += [f"{d}" for d in detectors] + ["remarks"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name in order:
        size = sizes[name]
        cells = [name, f"{size.fooled} of {size.attacked}", str(size.succeeded)]
        cells += [_number(v, f) for v, f in ((size.l2, ".2f"), (size.linf, ".1f"))]
        cells += [_number(size.pixels, ".0%")]
        cells += [
            f"{_number(auroc[d, name], '.2f')} / {_number(caught(bench, d, name), '.0%')}"
            for d in detectors
        ]
        remark = size.error.removeprefix("RuntimeError: ") or _unusual(size)
        lines.append("| " + " | ".join([*cells, remark.replace("|", "/")]) + " |")
    return lines


def _unusual(size: AttackSize) -> str:
    told = {"unchanged": size.unchanged, "not finite": size.broken, "outside": size.outside}
    return ", ".join(f"{count} {what}" for what, count in told.items() if count)


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def versions() -> str:
    """:return: of the libraries that are installed, and what they run on"""
    found = []
    for package in (*LIBRARIES, "torch", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return f"Python {platform.python_version()}, {', '.join(found)}"


def page(bench: AdversarialBenchmark, problems: Mapping[str, str], options: Any) -> str:
    """:return: the whole page"""
    sizes = bench.attack_sizes()
    ran = [size for size in sizes.values() if not size.error]
    fooled, left = (sum(getattr(s, field) for s in ran) for field in ("fooled", "succeeded"))
    parts = [
        "# Attacks of other libraries",
        f"`python examples/benchmarks/foreign.py`: three convolutions that know traffic signs "
        f"(GTSRB at 32 pixels), whose clean accuracy is "
        f"{bench.clean_accuracy():.3f} on {len(bench.id_test)} images. The first "
        f"{options.attacked} of them are attacked with few steps and up to {options.seconds:g} s "
        f"of CPU for each attack: this is what runs and what is seen, not what an attack can do. "
        f"{versions()}.",
        f"{len(sizes)} attacks, of which {len(ran)} ran to their end; none ended the run. They "
        f"fooled the classifier {fooled} times before rounding to 8 bit and {left} times after "
        f"it. L2 for images in [0, 1], L∞ in 1/255, pixels: share of those changed. Each "
        f"detector: AUROC ID-vs-ADV / share of the successes with a score above that of 95 % of "
        f"the ID images. With so few images an AUROC is good to about ±0.1. The attack that the "
        f"best of the detectors sees least is first.",
        "\n".join(table(bench, sizes)),
    ]
    if problems:
        parts += ["## Could not be made", *(f"- {n}: {why}" for n, why in problems.items())]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--attacked", type=int, default=24, help="images, default: 24")
    parser.add_argument("--test", type=int, default=300, help="ID and OOD images, default: 300")
    parser.add_argument("--fit", type=int, default=1000, help="images to fit on, default: 1000")
    parser.add_argument("--seconds", type=float, default=8, help="CPU per attack, default: 8")
    options = parser.parse_args()
    bench, problems = evaluated(options)
    path = Path(options.out) / "foreign.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(bench, problems, options), encoding="utf-8")
    bench.save(options.cache / "foreign" / "rows")
    print(path)


if __name__ == "__main__":
    main()
