"""
Images per second of one Ray worker, against score_folder.py, which is one process without Ray.

    python examples/scale/throughput.py --out throughput.md

Both score generated PNG files with the same fitted ViyogResidue on a ResNet-18. Each runs on few
and on many files; the difference of the two runs has neither's start-up in it, which is reported
beside it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from judges import JUDGES, build_model
from torch.nn.functional import avg_pool2d

FOLDER_SCRIPT = Path(__file__).parents[1] / "deployment" / "score_folder.py"
RAY_SCRIPT = Path(__file__).with_name("score_ray.py")


def make_images(folder: Path, few: int, copies: int, size: int) -> torch.Tensor:
    """``folder/few`` and ``folder/many``, the latter with each file several times, as links."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(few, 3, size + 8, size + 8, generator=generator)
    images = avg_pool2d(noise, 9, stride=1) + 0.02 * noise[..., 4:-4, 4:-4]
    for name in ("few", "many"):
        (folder / name).mkdir()
    for number, image in enumerate(images):
        file = folder / "few" / f"{number}.png"
        torchvision.utils.save_image(image, file)
        for copy in range(copies):
            os.link(file, folder / "many" / f"{number}-{copy}.png")
    return images


def seconds(script: Path, images: Path, out: Path, *options: object) -> float:
    command = [sys.executable, script, "--images", images, "--out", out, *options]
    begin = time.perf_counter()
    subprocess.run(
        [*map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--few", type=int, default=200, help="number of images of the short run")
    parser.add_argument("--copies", type=int, default=15, help="as often as long is the long run")
    parser.add_argument("--workers", type=int, default=1, help="Ray workers")
    parser.add_argument("--out", type=Path, required=True, help="table in Markdown")
    options = parser.parse_args()
    more = options.few * (options.copies - 1)
    lines = ["| script | images/s of a worker | start-up, s |", "|---|---|---|"]
    rates = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_images(folder, options.few, options.copies, options.size)
        detector = JUDGES["ViyogResidue"](build_model("resnet18")).fit(images.split(32))
        state = folder / "fitted.pt"
        torch.save(detector.state_dict(), state)
        given = ("--state", state, "--size", options.size)
        for script, workers in ((FOLDER_SCRIPT, 1), (RAY_SCRIPT, options.workers)):
            extra = ("--workers", workers) if script == RAY_SCRIPT else ()
            short, long = (
                seconds(script, folder / part, folder / f"{script.stem}-{part}", *given, *extra)
                for part in ("few", "many")
            )
            rates.append(more / (long - short) / workers)
            start = short - options.few / rates[-1] / workers
            lines.append(f"| {script.name}, {workers} | {rates[-1]:.1f} | {start:.0f} |")
    lines.append(f"\nOne Ray worker reaches {rates[1] / rates[0]:.2f} of score_folder.py.")
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())


if __name__ == "__main__":
    main()
