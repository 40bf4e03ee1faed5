"""
Jobs that ``speed_before.py`` times, in a process of its own that imports one build or another.

Only what both builds have is imported here. The names of jobs are read from the standard input,
one a line; the CPU seconds of each are printed.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import pytorch_ood_viyog
from pytorch_ood_viyog import (
    SecondLook,
    Triage,
    ViyogIntent,
    ViyogResidue,
    ViyogTV,
    export_onnx,
)
from pytorch_ood_viyog.layer.first_layer import FirstLayer

PURIFIERS = ("auto", "jpeg", "maps")
# short jobs run so often in a row, as long as that takes no more seconds
ROW, SHORT = 5, 0.5

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
PARTS = ("stems", *SIZES, "export")


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


def intent_jobs(quick: bool) -> dict[str, Prepared]:
    """What the detector of intent reads, where a joined reading would cost most and least."""

    def predict(label: str) -> Job:
        build, size, batch = STEMS[label]
        torch.manual_seed(0)
        detector = fitted(ViyogIntent, build().eval(), in_batches(inputs(32, size)))
        return partial(detector.predict, inputs(batch, size))

    names = () if quick else ("ResNet-18 (3x3 stem)", "ResNet-50")
    return {f"predict ViyogIntent, {name}": partial(predict, name) for name in names}


def export_jobs() -> dict[str, Prepared]:
    """A model exported with a score, and alone."""
    label = "ResNet-18 (3x3 stem)"

    def export(how: Callable[[ViyogResidue, Tensor, Path], object]) -> Job:
        detector, x, _ = fitted_stem(*STEMS[label][:2], 4)

        def job() -> None:
            with tempfile.TemporaryDirectory() as folder:
                how(detector, x, Path(folder) / "model.onnx")

        return job

    def alone(detector: ViyogResidue, x: Tensor, path: Path) -> None:
        torch.onnx.export(detector.model, (x,), path, dynamo=True, verbose=False)

    def with_its_score(detector: ViyogResidue, x: Tensor, path: Path) -> None:
        export_onnx(detector.model, detector, path, x)

    return {
        f"torch.onnx.export, {label}": partial(export, alone),
        f"export_onnx, {label}": partial(export, with_its_score),
    }


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


def jobs_of(part: str, quick: bool) -> dict[str, Prepared]:
    """Names of jobs, and how to prepare them."""
    if part == "export":
        return export_jobs()
    return reading_jobs(quick) | intent_jobs(quick) if part == "stems" else image_jobs(part, quick)


def worker(parts: list[str], quick: bool) -> None:
    """Does the jobs whose names it reads, and prints how long each took."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with torch.no_grad():
        known: dict[str, Prepared] = {}
        for part in parts:
            known |= jobs_of(part, quick)
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


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    worker(options.parts, options.quick)


if __name__ == "__main__":
    main()
