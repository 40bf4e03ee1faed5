"""What the benchmark itself costs beside the forward passes it makes, on a small net.

.. code-block:: bash

    python examples/benchmarks/overhead.py

All in one run: an attack, two OOD sets and two detectors of which a pass is all the cost. Time in
forward passes and in the attack is theirs; what is left is the benchmark's: data, rounding,
judging, stores and metrics. CPU seconds of one thread, so that what else runs does not count.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import torch
from models import build
from pytorch_ood.detector import EnergyBased, MaxSoftmax
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.attacks import TargetedPGD


class Clock:
    """CPU seconds inside forward passes, and in the attack beside those it makes."""

    def __init__(self, model: nn.Module) -> None:
        self.forward = self.attack_rest = 0.0
        self.attack = TargetedPGD(8 / 255, steps=10)
        self._since = 0.0
        model.register_forward_pre_hook(self._enter)
        model.register_forward_hook(self._leave)

    def _enter(self, *_: object) -> None:
        self._since = time.process_time()

    def _leave(self, *_: object) -> None:
        self.forward += time.process_time() - self._since

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        start, forward = time.process_time(), self.forward
        try:
            return self.attack(model, x, y)
        finally:
            inside = self.forward - forward
            self.attack_rest += time.process_time() - start - inside

    def __repr__(self) -> str:
        return f"Clock({self.attack})"


def measured(images: int, cache: Path | None, resamples: int) -> tuple[float, float, float]:
    """:return: seconds of the whole run, in forward passes, in the attack beside them"""
    torch.manual_seed(0)
    model = build("3x3", 10).eval()
    x, aerial, noise = (torch.rand(images, 3, 32, 32) for _ in range(3))
    with torch.no_grad():
        y = torch.cat([model(part).argmax(1) for part in x.split(100)])
    clock = Clock(model)
    bench = AdversarialBenchmark(
        model,
        (x, y),
        {"aerial": aerial, "noise": noise},
        {"targeted8": clock},
        cache=cache,
        resamples=resamples,
        min_images=1,
        progress=False,
    )
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bench.evaluate([MaxSoftmax(model), EnergyBased(model)])
    return time.process_time() - start, clock.forward, clock.attack_rest


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="of each set, default: 1000")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured(100, None, 0)  # warm
    print(f"torch {torch.__version__}, 1 thread, {options.images} images")
    for name, stored, resamples in (
        ("nothing stored, no intervals", False, 0),
        ("stored", True, 0),
        ("stored, 500 resamples", True, 500),
    ):
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder) if stored else None
            whole, forward, attack = measured(options.images, cache, resamples)
        own = whole - forward - attack
        print(
            f"{name:<30} {whole:6.2f} s: forward passes {forward:.2f}, rest of the attack "
            f"{attack:.2f}, benchmark {own:.2f} = {own / forward:.1%} of the forward passes"
        )


if __name__ == "__main__":
    main()
