"""What the benchmark itself costs, beside the forward passes that it makes: time, and memory.

.. code-block:: bash

    python examples/benchmarks/speed_benchmark.py

The classifier is small and has random weights, which changes no time; its own answers are the
labels. The attack costs nothing (noise), and neither do the detectors (MSP and energy, of one
forward pass), so that what is left is the benchmark's: reading, rounding, hashing, storing,
metrics with their intervals. Memory is that of 50,000 images in a ``.npy`` file, scored as an OOD
set by a linear model; what the process had before is not counted. Linux and macOS.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from models import build
from pytorch_ood.detector import EnergyBased, MaxSoftmax
from tables import markdown, save_page
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.images import load_images

_SIZE, _CLASSES = 32, 10
# bytes a unit of what the system reports
_UNIT = 1 if sys.platform == "darwin" else 1024


class Clocked(nn.Module):
    """Adds up the CPU time of a model's forward passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seconds = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """:param x: images (B, 3, H, W) in [0, 1]"""
        start = time.process_time()
        logits: Tensor = self.model(x)
        self.seconds += time.process_time() - start
        return logits


@torch.no_grad()
def classifier(*, linear: bool = False) -> nn.Sequential:
    """:return: with random weights; not all images are of one class to it"""
    layer = nn.Linear(3 * _SIZE**2, _CLASSES)
    model = nn.Sequential(nn.Flatten(), layer) if linear else build("3x3", _CLASSES)
    model.eval()
    model[-1].bias -= model(torch.rand(100, 3, _SIZE, _SIZE)).mean(0)
    return model


def noisy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """An attack that costs nothing."""
    return (x + 0.5 * torch.rand_like(x)).clamp(0, 1)


def random_images(path: Path, count: int) -> Path:
    """:return: a file of uint8 images (count, 32, 32, 3), written piece by piece"""
    shape = (count, _SIZE, _SIZE, 3)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    generator = np.random.default_rng(0)
    for start in range(0, count, 1000):
        part = images[start : start + 1000]
        part[:] = generator.integers(0, 256, part.shape, dtype=np.uint8)
    return path


@torch.no_grad()
def benchmark(
    model: nn.Module, ood: Path, count: int, cache: Path, resamples: int = 500
) -> AdversarialBenchmark:
    """:return: of ``count`` ID images, of which a fifth are attacked, and the images of a file"""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, _SIZE, _SIZE), generator=generator) / 255
    y = torch.cat([model(part).argmax(1) for part in x.split(100)])
    return AdversarialBenchmark(
        model,
        (x, y),
        {"file": load_images(ood)},
        {"noise": noisy},
        attacked=count // 5,
        cache=cache,
        resamples=resamples,
        progress=False,
    )


def evaluated(bench: AdversarialBenchmark, model: nn.Module) -> None:
    """Runs it; a row that says why there are no numbers ends the script."""
    rows = bench.evaluate({"MSP": MaxSoftmax(model), "energy": EnergyBased(model)})
    if errors := {row["Error"] for row in rows if row["Error"]}:
        raise RuntimeError("; ".join(errors))


def peak() -> int:
    """:return: bytes that the process had at most so far"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def memory(folder: Path, count: int) -> int:
    """:return: bytes at most beyond those after a run with few images of the same kind"""
    model = classifier(linear=True)
    few = random_images(folder / "few.npy", 200)
    evaluated(benchmark(model, few, 200, folder / "few"), model)
    before, many = peak(), random_images(folder / "many.npy", count)
    evaluated(benchmark(model, many, 200, folder / "many"), model)
    return peak() - before


def overhead(folder: Path, count: int, resamples: int) -> tuple[float, float]:
    """:return: CPU seconds of a run, and of the forward passes in it"""
    model = Clocked(classifier()).eval()
    folder = folder / f"{resamples} resamples"
    folder.mkdir()
    ood = random_images(folder / "ood.npy", count)
    bench = benchmark(model, ood, count, folder / "cache", resamples)
    model.seconds, start = 0.0, time.process_time()
    evaluated(bench, model)
    return time.process_time() - start, model.seconds


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000, help="in the file, default: 50000")
    parser.add_argument("--timed", type=int, default=2000, help="ID images, default: 2000")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bytes_ = memory(Path(folder), options.images)  # first: it is a peak of the process
        times = {n: overhead(Path(folder), options.timed, n) for n in (0, 500)}
    lines = [["", "reached", "target"]]
    for resamples, (total, forward) in times.items():
        what = f"beside its forward passes, intervals of {resamples} resamples"
        spent = f"{total / forward - 1:.1%} ({total:.1f} s of CPU, {forward:.1f} s in the model)"
        lines.append([what, spent, "5 %"])
    lines.append(
        [f"memory for {options.images:,} images", f"{bytes_ / 2**20:.0f} MiB", "1024 MiB"]
    )
    text = (
        f"# What the benchmark costs\n\n`python examples/benchmarks/speed_benchmark.py`: a small "
        f"network of 3×3 stem on images of {_SIZE} pixels; {options.timed} ID images of which a "
        f"fifth are attacked, as many OOD images of a `.npy` file, two detectors, a cache. Memory "
        f"is the peak of the process beyond that of a run with 200 images, with a linear model."
        f"\n\n{markdown(lines)}"
    )
    print(save_page(options.out / "speed_benchmark.md", text, __file__))


if __name__ == "__main__":
    main()
