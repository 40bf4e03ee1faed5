"""
Does everything run on this device, and what does it cost there? Under five minutes on a GPU.

    python examples/benchmarks/device_check.py                  # the GPU if there is one
    python examples/benchmarks/device_check.py --device cpu --quick

Ratios are medians over rounds, of the detector's time and that of the forward pass in the same
round. Waits are operations inside predict that hand a number, or a tensor of a size that depends
on values, to the processor: a GPU stands still for each. A check that fails is a row with its
error. The page is named after the device: results/device_NAME.md.
"""

import argparse
import platform
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pytorch_ood_viyog import SecondLook, Triage, ViyogIntent, ViyogResidue, ViyogTV, with_score

RESULTS = Path(__file__).parent / "results"
#: operations whose results the processor waits for
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")


class Waits(TorchDispatchMode):
    """Counts operations that a GPU would be waited for at."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        moved = isinstance(result, Tensor) and any(
            isinstance(each, Tensor) and each.device != result.device for each in args[:1]
        )
        chosen = name in ("index", "index_put", "index_put_") and any(map(_is_mask, args[1]))
        if moved or chosen or name.startswith(WAITING):
            self.found[name] = self.found.get(name, 0) + 1
        return result


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


@dataclass
class Setting:
    """A model on the device, images like those it knows, and how large checks are."""

    device: torch.device
    model: nn.Module
    size: int
    batches: tuple[int, ...]
    rounds: int

    def images(self, count: int, seed: int = 0) -> Tensor:
        """:return: smooth images with 8-bit grain, in [0, 1], on the device"""
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, self.size // 8, self.size // 8, generator=generator)
        smooth = nn.functional.interpolate(coarse, self.size, mode="bicubic").clamp(0, 1)
        grain = torch.randn(smooth.shape, generator=generator) / 255
        return ((smooth + grain).clamp(0, 1) * 255).round().div(255).to(self.device)

    def seconds(self, job: Callable[[], object]) -> float:
        """:return: wall time of a job, with all that it started"""
        self.wait()
        start = time.perf_counter()
        job()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def ratio(self, job: Callable[[], object], x: Tensor) -> float:
        """:return: time of a job in forward passes of the model on the same batch"""
        with torch.no_grad():
            job(), self.model(x)
            rounds = [
                self.seconds(job) / self.seconds(lambda: self.model(x)) for _ in range(self.rounds)
            ]
        return median(rounds)

    def residue(self) -> ViyogResidue:
        return ViyogResidue(self.model).fit([self.images(64)])


def predict_cost(setting: Setting) -> str:
    kinds = {"ViyogTV": ViyogTV, "ViyogResidue": ViyogResidue, "ViyogIntent": ViyogIntent}
    found = []
    for name, kind in kinds.items():
        detector = kind(setting.model).fit([setting.images(64)])
        for batch in setting.batches:
            x = setting.images(batch, seed=1)
            ratio = setting.ratio(lambda d=detector, x=x: d.predict(x), x)
            found.append(f"{name} at {batch}: {ratio:.2f}")
    return "forward passes: " + ", ".join(found)


def waits(setting: Setting) -> str:
    detector, x = setting.residue(), setting.images(16, seed=1)
    detector.predict(x)
    with Waits() as counted:
        detector.predict(x)
    each = ", ".join(f"{name} {count}" for name, count in sorted(counted.found.items()))
    return f"{sum(counted.found.values())} in ViyogResidue.predict ({each or 'none'})"


def fit(setting: Setting) -> str:
    x = setting.images(256)
    forward = setting.seconds(lambda: setting.model(x))
    kinds = (ViyogResidue, ViyogIntent)
    took = [(k.__name__, setting.seconds(lambda k=k: k(setting.model).fit([x]))) for k in kinds]
    each = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took)
    return f"{each}; a forward pass of the same 256 images {forward:.2f} s"


def second_look(setting: Setting) -> str:
    look = SecondLook(setting.model, purifier="maps").fit([setting.images(96)])
    x = setting.images(16, seed=1)
    return f"{setting.ratio(lambda: look.predict(x), x):.2f} forward passes at 16"


def triage(setting: Setting) -> str:
    x = setting.images(96)
    with torch.no_grad():
        known = [(x, setting.model(x).argmax(dim=1))]
    made = Triage(setting.model, simulate_on=32)
    took = setting.seconds(lambda: made.fit(known, [setting.images(128, seed=2)], progress=False))
    tested = setting.images(16, seed=1)
    ratio = setting.ratio(lambda: made.explain(tested), tested)
    return f"fit {took:.1f} s; explain {ratio:.2f} forward passes at 16"


def memory(setting: Setting) -> str:
    if setting.device.type != "cuda":
        return "needs CUDA"
    x, detector = setting.images(setting.batches[-1], seed=1), setting.residue()
    peaks = []
    for job in (lambda: setting.model(x), lambda: detector.predict(x)):
        torch.cuda.reset_peak_memory_stats(setting.device)
        with torch.no_grad():
            setting.seconds(job)
        peaks.append(torch.cuda.max_memory_allocated(setting.device) / 2**20)
    return f"forward pass {peaks[0]:.0f} MiB, predict {peaks[1]:.0f} MiB at {len(x)}"


def compiled(setting: Setting) -> str:
    detector, x = setting.residue(), setting.images(16, seed=1)
    scored = torch.compile(with_score(setting.model, detector), fullgraph=True)
    with torch.no_grad():
        return _same(detector.predict(x), scored(x)[1])


def autocast(dtype: torch.dtype) -> Callable[[Setting], str]:
    def check(setting: Setting) -> str:
        detector, x = setting.residue(), setting.images(16, seed=1)
        expected = detector.predict(x)
        with torch.autocast(setting.device.type, dtype):
            return _same(expected, detector.predict(x))

    return check


def channels_last(setting: Setting) -> str:
    detector, x = setting.residue(), setting.images(16, seed=1)
    return _same(detector.predict(x), detector.predict(x.to(memory_format=torch.channels_last)))


def graph_capture(setting: Setting) -> str:
    if setting.device.type != "cuda":
        return "needs CUDA"
    detector, x = setting.residue(), setting.images(16, seed=1)
    scored, other = with_score(setting.model, detector), setting.images(16, seed=2)
    # what is waited for cannot be captured: a trace has none
    program = torch.export.export(scored, (x,)).module()
    with torch.no_grad():
        aside = torch.cuda.Stream()
        with torch.cuda.stream(aside):
            program(x)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            _, scores = program(x)
        x.copy_(other)
        graph.replay()
    return _same(detector.predict(other), scores)


def _same(expected: Tensor, found: Tensor) -> str:
    off = (found.double() - expected.double()).abs().max()
    return f"largest difference of scores {float(off):.2g}"


CHECKS: dict[str, Callable[[Setting], str]] = {
    "predict": predict_cost,
    "waits": waits,
    "fit": fit,
    "SecondLook, maps": second_look,
    "Triage": triage,
    "peak memory": memory,
    "torch.compile": compiled,
    "autocast to bfloat16": autocast(torch.bfloat16),
    "autocast to float16": autocast(torch.float16),
    "channels_last": channels_last,
    "CUDA graph": graph_capture,
}


def name_of(device: torch.device) -> str:
    """:return: the card's name, or the processor's kind"""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="ResNet-18 at 64 px, small batches")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=[*CHECKS])
    parser.add_argument("--out", type=Path, help="page to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    kind, size = ("resnet18", 64) if arguments.quick else ("resnet50", 224)
    model = torchvision.models.get_model(kind, num_classes=10).eval().to(device)
    batches, rounds = ((1, 16), 3) if arguments.quick else ((1, 16, 256), 7)
    setting = Setting(device, model, size, batches, rounds)
    name = name_of(device)
    out = arguments.out or RESULTS / f"device_{re.sub('[^a-z0-9]+', '-', name.lower())}.md"
    command = f"device_check.py --device {device.type}{' --quick' if arguments.quick else ''}"
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"# Device check: {name}",
        "",
        f"`python examples/benchmarks/{command}`: {kind} (random weights) at {size} px, PyTorch "
        f"{torch.__version__}, {torch.get_num_threads()} thread(s).",
        "",
        "| check | result | seconds |",
        "|---|---|---|",
    ]
    for check in arguments.only:
        start = time.perf_counter()
        try:
            result = CHECKS[check](setting)
        except Exception as error:  # the others are still worth running
            text = str(error).strip().splitlines()[0] if str(error).strip() else ""
            result = f"**{type(error).__name__}**: {text[:200]}"
        lines.append(f"| {check} | {result} | {time.perf_counter() - start:.0f} |")
        print(lines[-1], flush=True)
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
