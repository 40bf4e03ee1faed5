"""
Fit a detector with several Ray workers, each on its share of an image folder, and save its state.

    python examples/scale/fit_ray.py --images FOLDER --workers 2 --out fitted.pt

The workers form a group of ``torch.distributed``, in which ``fit`` merges what they found: the
state is that of one fit to all images. On a cluster, start it with ``RAY_ADDRESS`` set; the images
must lie where all machines see them under the same path. Needs the extra ``scale``.
"""

import argparse
import socket
from pathlib import Path
from typing import Any

import ray
import torch
from engine import start
from judges import JUDGES, build_model
from torch import distributed
from torch.utils.data import DataLoader, Subset

from pytorch_ood_viyog.images.disk.files import load_images


@ray.remote(num_cpus=1)
class Fitter:
    """A worker that fits a share."""

    def address(self) -> str:
        """Of this worker's machine, with a port that is free now."""
        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def fit(
        self, options: argparse.Namespace, address: str, rank: int, world: int
    ) -> dict[str, Any] | None:
        """:return: the state of the first worker's detector; that of the others is the same"""
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", address, rank=rank, world_size=world)
        images = load_images(options.images, options.size, labelled=False)
        share = Subset(images, range(rank, len(images), world))
        detector = JUDGES[options.detector](build_model(options.model))
        detector.fit(DataLoader(share, batch_size=options.batch_size), progress=False)
        return detector.state_dict() if rank == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of ID images")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--model", default="resnet18", help="name of a torchvision model")
    kinds = [name for name in JUDGES if name != "Triage"]
    parser.add_argument("--detector", choices=kinds, default="ViyogResidue")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2, help="each takes one CPU core")
    parser.add_argument("--out", type=Path, required=True, help="file of the fitted state")
    options = parser.parse_args()
    options.images = options.images.resolve()

    start(options.workers)
    workers = [Fitter.remote() for _ in range(options.workers)]
    address = ray.get(workers[0].address.remote())
    shares = [w.fit.remote(options, address, i, len(workers)) for i, w in enumerate(workers)]
    state, *_ = ray.get(shares)
    torch.save(state, options.out)
    print(f"{state['class']} fitted by {len(workers)} worker(s): {options.out}")


if __name__ == "__main__":
    main()
