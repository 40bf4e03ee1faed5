"""Ten thousand small predicts and a hundred fits in one process leave memory as it was."""

import gc
import mmap
import os
from pathlib import Path

import pytest
import torch
from manners import count_hooks
from networks import SmallNet, build
from our_detectors import DETECTORS

PREDICTS = 10_000
FITS = 100
STATM = Path("/proc/self/statm")


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def resident_mebibytes() -> float:
    """Memory of this process; 0 where the system does not tell."""
    if not STATM.exists():
        return 0.0
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture
def work(loader, images):
    """Runs a share of all predicts and fits, spread over the detectors; some of them fail."""
    model = build(SmallNet)
    fitted = {name: make(model).fit(loader) for name, make in DETECTORS.items()}
    # the quick ones twice as often, for the time that it takes
    detectors = [*fitted.values(), fitted["Viyog"], fitted["ViyogTV"]]
    batches = images[:64].split(2)
    nan = torch.full_like(images[:2], torch.nan)
    few = [(images[:32], torch.zeros(32))]

    def run(share: float) -> None:
        for step in range(round(PREDICTS * share)):
            detectors[step % len(detectors)](batches[step % len(batches)])
        for step in range(round(FITS * share)):
            detector = detectors[step % len(detectors)]
            detector.fit(few, progress=False)
            with pytest.raises(ValueError, match="finite"):
                detector(nan)
            with pytest.raises(ValueError, match="finite"):
                detector.fit([*few, nan], progress=False)

    run.model = model
    return run


def test_soak(work):
    work(0.2)  # caches fill
    before, memory = objects(), resident_mebibytes()
    work(0.8)
    assert count_hooks(work.model) == 0
    assert objects() - before < 200
    assert resident_mebibytes() - memory < 16


def test_what_a_soak_would_find():
    """The measures notice a leak of objects, and one of memory."""
    before, memory = objects(), resident_mebibytes()
    kept = [[step] for step in range(1000)]
    block = mmap.mmap(-1, 2**26)  # new memory, where an allocator may hand out old
    for _ in range(64):
        block.write(bytes([1]) * 2**20)
    assert objects() - before >= 1000
    assert resident_mebibytes() - memory > 32 or not STATM.exists()
    assert len(kept) == 1000
    block.close()
