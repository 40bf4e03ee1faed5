"""
Fit a detector with several processes, each on its share of an image folder, and save its state.

    torchrun --nproc-per-node 2 examples/deployment/fit_torchrun.py --images FOLDER --out fitted.pt
    torchrun --nproc-per-node 2 examples/deployment/fit_torchrun.py --quick --out fitted.pt

All processes end with the state of a single fit to all images; the first one saves it. Without
torchrun the script fits in one process.
"""

import argparse
import os
from pathlib import Path

import torch
import torchvision
from torch import distributed
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.images.disk.files import load_images

DETECTORS = {"Viyog": Viyog, "ViyogTV": ViyogTV, "ViyogResidue": ViyogResidue}


def generated_images() -> Dataset:
    """Smooth images with a little noise, the same in all processes."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(96, 3, 40, 40, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 9, stride=1)
    return TensorDataset(smooth + 0.02 * noise[..., 4:-4, 4:-4])


def build_model(name: str) -> torch.nn.Module:
    """Put your own model here. Random weights must be the same in all processes."""
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--images", type=Path, help="folder of in-distribution images, or .npz")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--model", default="resnet18", help="name of a torchvision model")
    parser.add_argument("--detector", choices=DETECTORS, default="ViyogResidue")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0, help="loader processes of each process")
    parser.add_argument("--out", type=Path, required=True, help="file of the fitted state")
    parser.add_argument("--quick", action="store_true", help="generated images")
    options = parser.parse_args()
    if options.images is None and not options.quick:
        parser.error("give --images, or --quick for generated ones")

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        distributed.init_process_group("gloo")
    images = (
        generated_images()
        if options.quick
        else load_images(options.images, options.size, labelled=False)
    )
    share = Subset(images, range(rank, len(images), world))
    loader = DataLoader(share, batch_size=options.batch_size, num_workers=options.workers)

    detector = DETECTORS[options.detector](build_model(options.model))
    detector.fit(loader, progress=rank == 0)
    if rank == 0:
        torch.save(detector.state_dict(), options.out)
        print(f"{detector}\nfitted by {world} process(es) on {len(images)} images: {options.out}")
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
