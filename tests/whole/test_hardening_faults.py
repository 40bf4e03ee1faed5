"""Broken loaders, dying workers, missing devices, no memory: a clear error, and all as before."""

import os
import signal
import time

import pytest
import torch
from manners import untouched
from networks import SmallNet, build
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pytorch_ood_viyog import Viyog, ViyogResidue

GOOD = (torch.rand(8, 3, 10, 10, generator=torch.Generator().manual_seed(5)), torch.zeros(8))


@pytest.fixture
def unchanged(fitted, images):
    """Call it to see that model, scores and the ability to fit are as before."""
    before = fitted(images)

    def check():
        assert torch.equal(fitted(images), before)
        fitted.fit([GOOD])
        assert fitted(images).isfinite().all()

    return check


# -- loaders ---------------------------------------------------------------------------------


def test_loader_of_changing_sizes(make, model, images):
    """Images of several sizes are one distribution to a convolution, or are refused clearly."""
    sizes = [torch.rand(4, 3, size, size + 2) for size in (6, 11, 8)]
    detector = make(model).fit([GOOD])
    if not isinstance(detector, ViyogResidue):
        assert detector.fit(sizes)(sizes[0]).isfinite().all()
        return
    before = detector(images)
    with pytest.raises(ValueError, match="one size"):
        detector.fit(sizes)
    assert torch.equal(detector(images), before)


def test_loader_that_ends_early(make, model, images):
    """A loader that promises more batches than it yields is fitted on those that it yields."""

    class Short:
        def __len__(self):
            return 100

        def __iter__(self):
            return iter([GOOD])

    wanted = make(model).fit([GOOD])(images)
    assert torch.equal(make(model).fit(Short())(images), wanted)


class Failing(Dataset):
    """Its worker process dies, or raises, when it reaches the sample ``at``."""

    def __init__(self, at: int, dies: bool):
        self.at, self.dies = at, dies

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == self.at and self.dies:
            time.sleep(0.3)  # until what was read before has arrived
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self.at:
            raise OSError("a broken file")
        return GOOD[0][index % 8]


@pytest.mark.parametrize(
    ("dies", "kind", "message"),
    [(True, RuntimeError, "worker .*exited unexpectedly"), (False, OSError, "a broken file")],
)
def test_worker_process(model, images, dies, kind, message):
    # one detector stands for all: torch takes five seconds to give a dead worker up
    fitted = Viyog(model).fit([GOOD])
    before = fitted(images)
    loader = DataLoader(Failing(at=9, dies=dies), batch_size=4, num_workers=1)
    with untouched(model), pytest.raises(kind, match=message):
        fitted.fit(loader)
    assert torch.equal(fitted(images), before)


# -- devices ---------------------------------------------------------------------------------


def test_device_that_is_not_there(fitted, model, unchanged):
    with untouched(model), pytest.raises((RuntimeError, AssertionError), match=r"(?i)cuda|driver"):
        fitted.to("cuda:99")
    assert fitted.device == torch.device("cpu")
    unchanged()


# -- memory ----------------------------------------------------------------------------------


class SmallGPU(nn.Module):
    """Has room for eight samples."""

    def __init__(self):
        super().__init__()
        self.net = build(SmallNet)

    def forward(self, x):
        x = self.net.stem.norm(x)
        if len(x) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.net.stem.conv(x)


def test_gpu_memory_is_full(make, images):
    model = SmallGPU().train()
    detector = make(model).fit([GOOD])
    before = detector(images[:8])
    for action in (lambda: detector(images), lambda: detector.fit([images[:8], images])):
        with untouched(model), pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
            action()
        assert torch.equal(detector(images[:8]), before)


def huge(*shape):
    """More values than any machine has memory for; the tensor itself is a single number."""
    return torch.zeros(1).expand(shape)


def test_main_memory_is_full(fitted, model, unchanged):
    x = huge(2**10, 3, 2**18, 2**18)
    for action in (fitted, lambda x: fitted.fit([GOOD, x])):
        with untouched(model), pytest.raises(RuntimeError, match=r"allocate memory|out of memory"):
            action(x)
    unchanged()
