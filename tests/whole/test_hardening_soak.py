"""Many small predicts and fits in one process leave memory as it was."""

import gc
import os
from pathlib import Path

import pytest
import torch
from manners import count_hooks
from networks import SmallNet, build
from our_detectors import DETECTORS

STATM = Path("/proc/self/statm")


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def resident_mebibytes() -> float:
    """Memory of this process; 0 where the system does not tell."""
    if not STATM.exists():
        return 0.0
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_soak(loader, images):
    model = build(SmallNet)
    fitted = {name: make(model).fit(loader) for name, make in DETECTORS.items()}
    # the quick ones twice as often, for the time that it takes
    detectors = [*fitted.values(), fitted["Viyog"], fitted["ViyogTV"]]
    batches = images[:64].split(8)
    nan = torch.full_like(images[:2], torch.nan)
    few = [(images[:32], torch.zeros(32))]

    def work(rounds: int) -> None:
        for detector in detectors * rounds:
            for batch in batches:
                detector(batch)
            detector.fit(few, progress=False)
            for fails in (lambda: detector(nan), lambda: detector.fit([*few, nan])):  # noqa: B023
                with pytest.raises(ValueError, match="finite"):
                    fails()

    work(1)  # caches fill
    before, memory = objects(), resident_mebibytes()
    work(4)  # 20 fits, 160 predicts: one object kept by each would show
    assert count_hooks(model) == 0
    assert objects() - before < 20
    assert resident_mebibytes() - memory < 16
    before, kept = objects(), [[batch] for batch in batches]
    assert objects() - before >= len(kept)  # the measure notices a leak
