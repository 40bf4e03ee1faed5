"""What a fit costs by the number of images: time and memory from a thousand to a million.

.. code-block:: bash

    python examples/benchmarks/speed_scale.py

Images of 32 pixels are made as they are read, so that reading costs what a small file does. Each
fit runs in a process of its own; its memory is the largest resident size beyond that before.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from models import build
from tables import markdown, save_page
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pytorch_ood_viyog import ViyogResidue

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
#: images that are chosen of more, and images beyond which all are not read
CHOSEN, MOST = 1_000, 100_000
BATCH, SIZE = 100, 32


class Made(Dataset[Tensor]):
    """Images by their number; counts how many were made."""

    def __init__(self, count: int) -> None:
        self.count, self.made = count, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        self.made += 1
        generator = torch.Generator().manual_seed(index)
        coarse = torch.rand(1, 3, SIZE // 4, SIZE // 4, generator=generator)
        image = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic")[0]
        return (image.clamp(0, 1) * 255).round() / 255


def measured(count: int, chosen: int | None) -> dict[str, float]:
    """:return: CPU seconds, images read and MiB of one fit"""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, images = build("3x3", 10).eval(), Made(count)
    ViyogResidue(model).fit(DataLoader(Made(BATCH), BATCH), progress=False)  # what is made once
    before, start = peak(), time.process_time()
    ViyogResidue(model).fit(DataLoader(images, BATCH), progress=False, max_images=chosen)
    seconds = time.process_time() - start
    return {"seconds": seconds, "read": images.made, "MiB": (peak() - before) / 2**10}


def peak() -> int:
    """:return: largest resident size of this process so far, in KiB"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results, help="folder of the page")
    parser.add_argument("--counts", type=int, nargs="+", default=[*COUNTS])
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(*options.one)))
        return
    lines = [["images", "max_images", "read", "CPU s", "memory beyond the model, MiB"]]
    for count in options.counts:
        for chosen in (CHOSEN, None):
            if chosen is None and count > MOST:
                continue
            job = [sys.executable, __file__, "--one", json.dumps([count, chosen])]
            found = json.loads(subprocess.check_output(job))
            given = "–" if chosen is None else f"{chosen:,}"
            numbers = (f"{found['read']:,.0f}", f"{found['seconds']:.1f}", f"{found['MiB']:.0f}")
            lines.append([f"{count:,}", given, *numbers])
            print(lines[-1], flush=True)
    about = (
        "# A fit by the number of images\n\n`python examples/benchmarks/speed_scale.py`: "
        "`ViyogResidue(model).fit(loader, max_images=...)`, 32 "
        f"pixels, batches of {BATCH}, a 3×3 first layer; beyond {MOST:,} images "
        "all of them are not read here."
    )
    save_page(options.out / "speed_scale.md", f"{about}\n\n{markdown(lines)}", __file__)


if __name__ == "__main__":
    main()
