"""What it costs to look at the kind of images, and at constant windows, with every batch."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from unittest.mock import patch

import torch
from models import build
from torch import Tensor

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.detectors import FirstLayerDetector
from pytorch_ood_viyog.images.pixels import to_8_bit
from pytorch_ood_viyog.residue import reader

#: size of images -> images a batch
SHAPES = {32: 64, 224: 8}
#: pairs, one with the checks and one without, and calls of each; before that, as levels of the
#: first images are looked at more often
PAIRS, CALLS, WARM_UP = 15, 4, 4


@contextmanager
def unchecked() -> Iterator[None]:
    """Without either."""

    def nowhere(field: Tensor, _: Tensor, sizes: Sequence[int], strides: Sequence[int]) -> Tensor:
        axes = zip(field.shape[2:], sizes, strides, strict=True)
        counts = [(length - size) // stride + 1 for length, size, stride in axes]
        return torch.zeros(len(field), *counts, dtype=torch.bool)

    kind = patch.object(FirstLayerDetector, "_warn_of_other_kind", lambda *_: None)
    with kind, patch.object(reader, "constant", nowhere):
        yield


def cost_rows() -> list[dict[str, str | float]]:
    """:return: CPU time of ``predict`` with both checks, as a multiple of that without"""
    torch.set_num_threads(1)
    rows = []
    for size, batch in SHAPES.items():
        torch.manual_seed(0)
        model = build("7x7" if size > 100 else "3x3", 10).eval()
        x = to_8_bit(torch.rand(64, 3, size // 4, size // 4))
        x = to_8_bit(torch.nn.functional.interpolate(x, size, mode="bicubic"))
        row: dict[str, str | float] = {"pixels": f"{size}", "batch": f"{batch}"}
        for kind in (ViyogResidue, Viyog, ViyogTV):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                detector = kind(model).fit(x.split(batch))
            row[kind.__name__] = _ratio(lambda detector=detector, own=x[:batch]: detector(own))
        rows.append(row)
    return rows


def _ratio(predict: Callable[[], Tensor]) -> float:
    def seconds() -> float:
        start = time.process_time()
        for _ in range(CALLS):
            predict()
        return time.process_time() - start

    for _ in range(WARM_UP):
        seconds()
    ratios = []
    for number in range(PAIRS):
        # either first, in turn
        times = {}
        for checked in (True, False) if number % 2 else (False, True):
            if checked:
                times[checked] = seconds()
            else:
                with unchecked():
                    times[checked] = seconds()
        ratios.append(times[True] / times[False])
    return median(ratios)
