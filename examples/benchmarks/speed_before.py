"""
CPU time of this build beside an older one, in one run.

    python examples/benchmarks/speed_before.py            # some minutes
    python examples/benchmarks/speed_before.py --quick    # to see that it runs

The older commit is checked out into a temporary worktree. Both builds do the same jobs in turn,
on one thread each, so that a noisy machine slows both alike; short jobs five times in a row, of
which the median counts, as the first finds cold caches. Times are medians over the rounds, ratios
medians of the ratios within a round. Weights are random, which changes no time. Each pair of
times is kept as soon as it is there: an interrupted run goes on where it stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import IO, Any

import torch
import torchvision
from torch import Tensor, nn

import pytorch_ood_viyog
from pytorch_ood_viyog import SecondLook, Triage, ViyogIntent, ViyogResidue, ViyogTV
from pytorch_ood_viyog.layer.first_layer import FirstLayer

HERE = Path(__file__).resolve().parent
BEFORE = "a37a249"
PURIFIERS = ("auto", "jpeg", "maps")
# short jobs run so often in a row, as long as that takes no more seconds
ROW, SHORT = 5, 0.5
#: kind of job -> most that it may cost, in times of before
TARGETS = {"predict": 1.02, "fit all of a Triage": 0.25}
#: size of images -> forward passes of a second look beyond the second
PASSES = {"32 px": 1.0, "224 px": 0.3}

Job = Callable[[], object]
#: what a job needs is made when it is asked for, and is not timed
Prepared = Callable[[], Job]


class Signals(nn.Module):
    """A classifier of signals, 16,000 samples long."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv1d(1, 64, 80, 4), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.first(x).relu().mean(dim=2))
        return logits


def small_resnet() -> nn.Module:
    """ResNet-18 with the usual stem for 32 px."""
    model: nn.Module = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


STEMS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "ResNet-18 (3x3 stem)": (small_resnet, 32, 64),
    "ResNet-50": (torchvision.models.resnet50, 224, 8),
    "ConvNeXt-tiny": (torchvision.models.convnext_tiny, 224, 8),
    "ViT-B/16": (torchvision.models.vit_b_16, 224, 8),
    "signals": (Signals, 0, 8),
}


SIZES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "32 px": (small_resnet, 32, 300),
    "224 px": (torchvision.models.mobilenet_v2, 224, 130),
}
PARTS = ("stems", *SIZES)


def inputs(count: int, size: int) -> Tensor:
    """Smooth, with a little noise."""
    if size == 0:
        smooth = nn.functional.avg_pool1d(torch.randn(count, 1, 16008), 9, stride=1)
        return smooth + 0.01 * torch.randn(count, 1, 16000)
    wide = torch.rand(count, 3, size + 8, size + 8)
    return nn.functional.avg_pool2d(wide, 9, stride=1) + 0.02 * torch.rand(count, 3, size, size)


def in_batches(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part))) for part in torch.split(x, 10)]


def reading_jobs(quick: bool) -> dict[str, Prepared]:
    """What is read of inputs and of maps."""
    made: dict[str, Prepared] = {}
    for name, (build, size, batch) in STEMS.items():
        if quick and size != 32:
            continue
        stem = cache(partial(fitted_stem, build, size, 2 if quick else batch))
        made[f"predict, {name}"] = lambda stem=stem: partial(stem()[0].predict, stem()[1])
        made[f"predict_features, {name}"] = lambda stem=stem: partial(
            stem()[0].predict_features, stem()[2]
        )
    return made


def fitted_stem(
    build: Callable[[], nn.Module], size: int, batch: int
) -> tuple[ViyogResidue, Tensor, Tensor]:
    """A detector, images and their maps."""
    torch.manual_seed(0)
    model, x = build().eval(), inputs(batch, size)
    detector = ViyogResidue(model).fit(in_batches(inputs(32, size)), progress=False)
    return detector, x, FirstLayer(model).run(x, lambda call: call.maps())


def fitted(kind: Callable[..., Any], model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> Any:
    """A new detector."""
    return kind(model).fit(data, progress=False)


@torch.enable_grad()
def all_of_a_triage(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> None:
    """What a Triage is fitted to by default; what that was when its parts were fitted apart."""
    if "AdversarialOdds" in pytorch_ood_viyog.__all__:
        half = len(data) // 2
        Triage(model).fit(data[:half], data[half:])
        return
    for kind in (ViyogTV, ViyogResidue, ViyogIntent, SecondLook):
        fitted(kind, model, data)


def with_varied_answers(model: nn.Module, x: Tensor) -> nn.Module:
    """Random weights answer all images alike: the same without what the answers share."""
    head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    mean = torch.cat([model(part) for part in x.split(8)]).mean(dim=0)
    head.bias.data -= mean
    return model


@cache
def model_and_images(label: str, count: int) -> tuple[nn.Module, Tensor]:
    """A model, and images of its size."""
    torch.manual_seed(0)
    build, size, _ = SIZES[label]
    images = inputs(count, size)
    return with_varied_answers(build().eval(), images), images


def look_at(label: str, count: int, purifier: str) -> Job:
    """Predict of a second look; whatever answers do, the first purifier is taken."""
    model, images = model_and_images(label, count)
    look = SecondLook(model, purifier=purifier, strength=4 / 255, max_flips=1.0)
    look.fit(in_batches(images), progress=False)
    return partial(look.predict, images[:8])


def image_jobs(label: str, quick: bool) -> dict[str, Prepared]:
    """Fits, and second looks."""
    count = 8 if quick else SIZES[label][2]

    def fit(kind: Callable[..., Any]) -> Prepared:
        return lambda: partial(
            fitted, kind, model_and_images(label, count)[0], in_batches(images())
        )

    def images() -> Tensor:
        return model_and_images(label, count)[1]

    made: dict[str, Prepared] = {
        f"forward pass, {label}": lambda: partial(model_and_images(label, count)[0], images()[:8]),
        f"fit ViyogResidue, {label}": fit(ViyogResidue),
    }
    if not quick:
        made[f"fit ViyogIntent, {label}"] = fit(ViyogIntent)
        made[f"fit all of a Triage, {label}"] = lambda: partial(
            all_of_a_triage, model_and_images(label, count)[0], in_batches(images())
        )
    for purifier in PURIFIERS[-1:] if quick else PURIFIERS:
        made[f"fit SecondLook {purifier}, {label}"] = fit(partial(SecondLook, purifier=purifier))
        made[f"predict SecondLook {purifier}, {label}"] = partial(look_at, label, count, purifier)
    return made


def worker(parts: list[str], quick: bool) -> None:
    """Does the jobs whose names it reads, and prints how long each took."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with torch.no_grad():
        known: dict[str, Prepared] = {}
        for part in parts:
            known |= reading_jobs(quick) if part == "stems" else image_jobs(part, quick)
        prepared: dict[str, Job] = {}
        print("|".join(known), flush=True)
        for line in sys.stdin:
            name = line.strip()
            if name not in prepared:
                prepared[name] = known[name]()
            times: list[float] = []
            while not times or (len(times) < ROW and sum(times) < SHORT):
                start = time.process_time()
                prepared[name]()
                times.append(time.process_time() - start)
            print(median(times), flush=True)


def started(package: Path, parts: list[str], quick: bool) -> subprocess.Popen[str]:
    """A worker that imports the package of a checkout."""
    return subprocess.Popen(
        [
            *(sys.executable, str(HERE / "speed_before.py"), "--worker"),
            *(["--quick"] * quick),
            *("--parts", *parts),
        ],
        env=os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def asked(process: subprocess.Popen[str], job: str) -> float:
    """CPU seconds of a job."""
    to, back = pipes(process)
    to.write(job + "\n")
    to.flush()
    return float(back.readline())


def pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None, "opened as a pipe"
    assert process.stdout is not None, "opened as a pipe"
    return process.stdin, process.stdout


def missed(times: dict[str, list[tuple[float, float]]]) -> str:
    """What each kind of job may cost, and which cost more."""
    before = {name: median(new / old for old, new in pairs) for name, pairs in times.items()}
    beyond = {name: in_units(times, name, "forward pass") - 2 for name in times if is_look(name)}
    lines = []
    for kind, most in TARGETS.items():
        of_kind = {name: cost for name, cost in before.items() if name.startswith(f"{kind}, ")}
        lines += told(of_kind, f"{kind}, at most {most} × before", most)
    for size, most in PASSES.items():
        of_size = {name: cost for name, cost in beyond.items() if name.endswith(size)}
        lines += told(of_size, f"SecondLook, {size}, at most {most} passes beyond two", most)
    return "\n".join(["Targets:", "", *lines])


def told(costs: dict[str, float], target: str, most: float) -> list[str]:
    """A line, which jobs cost more than they may; none where there is no job."""
    over = ", ".join(f"{name} ({cost:.2f})" for name, cost in costs.items() if cost > most)
    return [f"- {target}: {f'missed by {over}' if over else 'reached'}."] if costs else []


def is_look(name: str) -> bool:
    return name.startswith("predict SecondLook")


def in_units(times: dict[str, list[tuple[float, float]]], name: str, unit: str) -> float:
    """Time of this build, in times of another of its jobs of the same model."""
    other = times[f"{unit}, {name.partition(', ')[2]}"]
    return median(mine[1] / its[1] for mine, its in zip(times[name], other, strict=True))


def table(times: dict[str, list[tuple[float, float]]], before: str, parts: list[str]) -> str:
    """Markdown; predict_features also in units of predict of this build."""
    now = subprocess.check_output(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"])
    lines = [
        "# Cost beside an older build",
        "",
        f"CPU time on one thread, {now.decode().strip()} beside {before}, torch "
        f"{torch.__version__.partition('+')[0]}; made by "
        f"`python examples/benchmarks/speed_before.py --parts {' '.join(map(repr, parts))}`.",
        "",
        "| job | before, ms | now, ms | ratio | now, in units of |",
        "|---|---|---|---|---|",
    ]
    for name in times:
        old, new = (median(pair[i] for pair in times[name]) for i in (0, 1))
        ratio = median(b / a for a, b in times[name])
        unit = "predict" if name.startswith("predict_features") else ""
        unit = "forward pass" if is_look(name) else unit
        shown = f"{in_units(times, name, unit):.2f} × {unit}" if unit else ""
        lines.append(f"| {name} | {1e3 * old:.1f} | {1e3 * new:.1f} | {ratio:.2f} | {shown} |")
    return "\n".join([*lines, "", missed(times), ""])


def compared(before: str, parts: list[str], rounds: int, quick: bool, kept: Path) -> str:
    """Runs both builds in turn; times that were kept are not taken again."""
    git = ["git", "-C", str(HERE)]
    times: dict[str, list[tuple[float, float]]] = (
        json.loads(kept.read_text()) if kept.exists() else {}
    )
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        subprocess.run([*git, "worktree", "add", "-q", "--detach", str(tree), before], check=True)
        workers: list[subprocess.Popen[str]] = []
        try:
            workers = [started(package, parts, quick) for package in (tree, HERE.parents[1])]
            names, _ = (pipes(each)[1].readline().strip().split("|") for each in workers)
            # fits take long and vary little
            wanted = {name: 1 if name.startswith("fit") else rounds for name in names}
            for number in range(rounds):
                for name in names:
                    if len(times.setdefault(name, [])) < min(wanted[name], number + 1):
                        old, new = (asked(each, name) for each in workers)
                        times[name].append((old, new))
                        kept.write_text(json.dumps(times))
        finally:
            for each in workers:
                each.kill()
                each.wait()
            subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)
    # an earlier run may have been asked for more rounds, and cut off in one
    return table({name: times[name][: wanted[name]] for name in names}, before, parts)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all but fits")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--before", default=BEFORE, help=f"commit, default: {BEFORE}")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the page")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.parts, options.quick)
        return
    parts = ["stems", "32 px"] if options.quick else options.parts
    rounds = 2 if options.quick else options.rounds
    from sources import fingerprint  # not in a worker: the older build lacks what it imports
    from tables import save_page

    kept = options.cache / "speed_before" / f"{options.before}-{fingerprint(__file__)}.json"
    if options.quick:
        kept = kept.with_stem(f"{kept.stem}-quick")
    kept.parent.mkdir(parents=True, exist_ok=True)
    text = compared(options.before, parts, rounds, options.quick, kept)

    save_page(options.out / "speed_before.md", text, __file__)
    print(text)


if __name__ == "__main__":
    main()
