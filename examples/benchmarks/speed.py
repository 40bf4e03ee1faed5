"""
What the detectors cost: time and memory of predict and fit beside the model's own.

    python examples/benchmarks/speed.py            # all models, some minutes a model
    python examples/benchmarks/speed.py --quick    # small models, seconds, to see that it runs

All jobs of a model run in turn, again and again, so that a noisy machine slows all of them alike;
with --clock cpu and one thread, the time that other programs take does not count. Times are
medians with quartiles; ratios are medians over the rounds, of two jobs in the same round.
Weights are random, which changes no time. Results go to Markdown and CSV files; those of some of
the models (--models) to files of their own.
"""

import argparse
import csv
import platform
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import torch
import torchvision
import viyog
from pytorch_ood.detector import EnergyBased, MaxSoftmax
from speed_memory import peak_memory
from torch import Tensor, nn

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.layer.first_layer import FirstLayer
from pytorch_ood_viyog.pipeline.shared_forward import SharedForward

RESULTS = Path(__file__).parent / "results"
DETECTORS = {"Viyog": Viyog, "ViyogTV": ViyogTV, "ViyogResidue": ViyogResidue}
FORWARD, CONVOLUTION, PUBLISHED = "forward pass", "first convolution", "viyog 0.1.3 score"
SHARED = "SharedForward, 3 Viyogs + MSP + Energy"
MEBIBYTE = 2**20
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def small_resnet() -> nn.Module:
    """ResNet-18 with the usual stem for 32 px."""
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-50": (torchvision.models.resnet50, 224),
    "ConvNeXt-tiny": (torchvision.models.convnext_tiny, 224),
    "ViT-B/16": (torchvision.models.vit_b_16, 224),
    "ResNet-18 (3x3 stem)": (small_resnet, 32),
}
# batch sizes by the size of the images: small networks are used with large batches
BATCHES = {224: (16, 1), 32: (256, 64, 16, 1)}


@dataclass(frozen=True)
class Row:
    """One line of the results; times in seconds, memory in bytes."""

    device: str
    model: str
    batch: int
    job: str
    median: float
    low: float
    high: float
    per_convolution: float
    per_forward: float
    published_per_job: float
    peak_memory: int
    maps_memory: int


def images(count: int, size: int) -> Tensor:
    """Smooth images with a little noise, in [0, 1]."""
    smooth = nn.functional.avg_pool2d(torch.rand(count, 3, size + 8, size + 8), 9, stride=1)
    return smooth + 0.02 * torch.rand(count, 3, size, size)


class Bench:
    """One model with all detectors fitted, and the jobs to time on it."""

    def __init__(
        self,
        build: Callable[[], nn.Module],
        size: int,
        device: str,
        fit_images: int,
        clock: Callable[[], float],
    ):
        self.model = build().eval().to(device)
        self.clock = clock
        self.size, self.device, self.fit_images = size, device, fit_images
        self.base = images(16, size).to(device)
        self.detectors = {
            name: kind(self.model).fit(self.fit_batches(fit_images), progress=False)
            for name, kind in DETECTORS.items()
        }
        own = {name: kind(None) for name, kind in DETECTORS.items()}
        self.shared = SharedForward(
            self.model, own | {"MSP": MaxSoftmax(None), "Energy": EnergyBased(None)}
        )
        self.shared.fit(self.fit_batches(fit_images), names=list(DETECTORS), progress=False)

    def fit_batches(self, count: int) -> Iterator[Tensor]:
        """Made as they are asked for, so that they take no memory; no two images are equal."""
        for start in range(0, count, 16):
            yield self.base[: count - start] * (0.5 + start / count / 2)

    def jobs(self, x: Tensor, published: viyog.Viyog) -> dict[str, Callable[[], object]]:
        layer, maps = FirstLayer(self.model).run(x, lambda call: (call.layer, call.maps()))
        jobs: dict[str, Callable[[], object]] = {
            FORWARD: lambda: self.model(x),
            SHARED: lambda: self.shared.predict(x),
            CONVOLUTION: lambda: layer.forward(x),
        }
        for name, detector in self.detectors.items():
            jobs[f"{name}.predict"] = lambda d=detector: d.predict(x)
        for name, detector in self.detectors.items():
            jobs[f"{name}.predict_features"] = lambda d=detector: d.predict_features(maps)
        return jobs | {PUBLISHED: lambda: published.score(x)}

    @torch.no_grad()
    def rows(self, name: str, batch: int, rounds: int) -> list[Row]:
        x = images(batch, self.size).to(self.device)
        maps = FirstLayer(self.model).run(x, lambda call: call.maps())
        # only while it is timed: its hook would slow the other jobs of the next batch size
        with viyog.Viyog(self.model) as published:
            published.fit(list(self.fit_batches(16)))
            jobs = self.jobs(x, published)
            times = interleaved(jobs, rounds, self.device, self.clock)
            memory = {job: peak_memory(run, self.device) for job, run in jobs.items()}
        size = maps.numel() * maps.element_size()

        def ratio(job: str, other: str) -> float:
            return median(a / b for a, b in zip(times[job], times[other], strict=True))

        return [
            Row(
                self.device,
                name,
                batch,
                job,
                *spread(times[job]),
                ratio(job, CONVOLUTION),
                ratio(job, FORWARD),
                ratio(PUBLISHED, job),
                memory[job],
                size,
            )
            for job in jobs
        ]

    def fit_table(self) -> list[str]:
        """Time and peak memory of fits to n and 4 n images."""
        few, many = self.fit_images, 4 * self.fit_images
        lines = [
            f"| fit | ms an image | ms once | peak memory, {few} images, MiB "
            f"| {many} images, MiB |",
            "|---|---|---|---|---|",
        ]
        for name, kind in DETECTORS.items():
            (seconds, peak), (longer, later_peak) = (self.fit(kind, n) for n in (few, many))
            each = (longer - seconds) / (many - few)
            lines.append(
                f"| {name} | {1e3 * each:.2f} | {1e3 * max(0, seconds - few * each):.0f} "
                f"| {peak / MEBIBYTE:.1f} | {later_peak / MEBIBYTE:.1f} |"
            )
        return [*lines, ""]

    def fit(self, kind: type, count: int) -> tuple[float, int]:
        detector = kind(self.model).fit(self.fit_batches(16), progress=False)  # warms up
        start = self.clock()
        peak = peak_memory(
            lambda: detector.fit(self.fit_batches(count), progress=False), self.device
        )
        return self.clock() - start, peak


def interleaved(
    jobs: dict[str, Callable[[], object]], rounds: int, device: str, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each job in each round; one round before them warms up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    order = list(jobs)
    for number in range(rounds + 1):
        if number:
            random.shuffle(order)
        for name in order:
            synchronize(device)
            start = clock()
            jobs[name]()
            synchronize(device)
            if number:
                times[name].append(clock() - start)
    return times


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return median(values), low, high


def table(rows: list[Row]) -> list[str]:
    first = rows[0]
    lines = [
        f"### {first.model}, batch {first.batch}, {first.device}",
        "",
        f"One copy of the first-layer maps: {first.maps_memory / MEBIBYTE:.1f} MiB.",
        "",
        "| | ms, median (quartiles) | × first convolution | × forward pass "
        "| faster than viyog 0.1.3 | peak extra memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = f"{1e3 * row.median:.2f} ({1e3 * row.low:.2f} to {1e3 * row.high:.2f})"
        lines.append(
            f"| {row.job} | {times} | {row.per_convolution:.2f} | {row.per_forward:.3f} "
            f"| {row.published_per_job:.1f} | {row.peak_memory / MEBIBYTE:.1f} |"
        )
    return [*lines, ""]


def machine(device: str) -> str:
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text()
        names = [line for line in text.splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    name = torch.cuda.get_device_name() if device == "cuda" else processor
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread(s), torch {torch.__version__.partition('+')[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--rounds", type=int, default=15, help="rounds to take the median of")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: on a machine shared with others"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    names, batches, fit_images, rounds = options.models, BATCHES, 256, options.rounds
    if options.quick:
        names, batches, fit_images, rounds = ["ResNet-18 (3x3 stem)"], {32: (2, 1)}, 8, 2
    options.out.mkdir(parents=True, exist_ok=True)
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        rows: list[Row] = []
        # a GPU works while the process waits
        clock = CLOCKS[options.clock] if device == "cpu" else time.perf_counter
        kind = "CPU time" if clock is time.process_time else "wall-clock time"
        report = [
            f"# Cost on {machine(device)}, {kind}",
            "",
            f"`python examples/benchmarks/speed.py --clock {options.clock} --threads "
            f"{options.threads} --rounds {rounds}`: medians of {rounds} rounds, random weights.",
            "",
        ]
        print("\n".join(report), flush=True)
        for name in names:
            bench = Bench(*MODELS[name], device, fit_images, clock)
            parts = [bench.rows(name, batch, rounds) for batch in batches[bench.size]]
            section = [line for part in parts for line in table(part)]
            section += bench.fit_table()
            print("\n".join(section), flush=True)
            report += section
            rows += [row for part in parts for row in part]
            save(options.out / file_name(device, options.models), report, rows)


def file_name(device: str, names: list[str]) -> str:
    """Of some models, it names them, so that the results of all are not lost."""
    some = [] if names == list(MODELS) else names
    return "_".join(["speed", device, *(re.sub(r"\W+", "-", name).strip("-") for name in some)])


def save(path: Path, report: list[str], rows: list[Row]) -> None:
    path.with_suffix(".md").write_text("\n".join(report))
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(vars(rows[0])))
        writer.writeheader()
        writer.writerows(vars(row) for row in rows)


if __name__ == "__main__":
    main()
