"""One process of the distributed tests."""

import os
from functools import partial
from pathlib import Path

import torch
from networks import SmallNet, build
from torch import distributed

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.detectors import ViyogIntent

#: share of 64 images in batches of 8 that each of two ranks sees: number of batches of rank 0
SHARES = {"uneven": 7, "empty": 8, "empty first": 0}
DETECTORS = {
    "Viyog": Viyog,
    "ViyogTV": ViyogTV,
    "ViyogResidue": ViyogResidue,
    "ViyogIntent": partial(ViyogIntent, sample_size=12, eps=(4 / 255,)),
}


def batches():
    generator = torch.Generator().manual_seed(5)
    noise = torch.rand(64, 3, 12, 12, generator=generator)
    coarse = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    return list((coarse + 0.1 * noise).split(8))


def shard(rank, case):
    first = SHARES[case]
    return batches()[:first] if rank == 0 else batches()[first:]


def fitted(loader):
    model = build(SmallNet)
    return {name: kind(model).fit(loader, progress=False) for name, kind in DETECTORS.items()}


def broken():
    yield batches()[0]
    raise ArithmeticError("raised by the user's loader")


def main(rank: int, world: int, folder: Path) -> None:
    """Fits to the process's share of each case and saves the states."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), world)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    for case in SHARES:
        states = {name: d.state_dict() for name, d in fitted(shard(rank, case)).items()}
        torch.save(states, folder / f"{case} {rank}.pt")
    messages = []
    for loader in (broken() if rank == 0 else batches(), []):
        try:
            Viyog(build(SmallNet)).fit(loader, progress=False)
        except Exception as error:
            messages.append(f"{type(error).__name__}: {error}")
    torch.save(messages, folder / f"errors {rank}.pt")
    store.set(f"done {rank}", "")
    store.wait([f"done {other}" for other in range(world)])
    # torch 2.6 may wait for itself for ever when it destroys the group
    os._exit(0)
