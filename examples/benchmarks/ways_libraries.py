"""Ways that libraries take: who raises false alarms, and whether SameWay finds them."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from ways_pipelines import PIPELINES, REFERENCE
from ways_rows import BATCH, Cache, Rows, read, share, shares

from pytorch_ood_viyog import SameWay, ViyogResidue

#: images of a check, and how many random ones; longest stream, and how many
CHECKED, CHECKS, STREAM, STREAMS = 50, 100, 10_000, 10
#: images after which a stream of another way is given up
PATIENCE = 1000
#: calibration images of a stream
CALIBRATED = 150
#: ways that detectors are fitted on -> others that they meet
FITTED_ON = {
    "half-size source": (REFERENCE, "OpenCV INTER_LINEAR"),
    "JPEG 95 4:2:0 source": (REFERENCE, "OpenCV INTER_LINEAR"),
    "torchvision, floats": ("torchvision, floats, rounded",),
}


def library_rows(
    cache: Cache, model: nn.Module, fit: Tensor, brought: Callable[[str], Tensor]
) -> Iterator[Rows]:
    """:return: false alarms of each way, how often a check of 50 images finds it, and how soon a
    stream does: all rows so far, after each way"""
    detector = ViyogResidue(model).fit(fit.split(BATCH))
    usual = cache(f"way {REFERENCE}", lambda: read(detector, brought(REFERENCE)))
    split = len(usual) // 2
    limit = usual[:split].quantile(0.95, dim=0)
    known = usual[:, :-3].numpy()
    rows: Rows = []
    for name in tqdm(PIPELINES, desc="libraries"):
        try:
            found = cache(f"way {name}", lambda name=name: read(detector, brought(name)))
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        row: dict[str, str | float] = {"way": name} | shares("FP", found[split:], limit)
        arrived = found[:, :-3].numpy()
        row["found by SameWay"] = _found_by_check(detector, known, arrived)
        rows.append(row | _stream(detector, known, arrived, reference=name == REFERENCE))
        yield rows


def _found_by_check(detector: ViyogResidue, usual: np.ndarray, arrived: np.ndarray) -> float:
    """Of other photographs than those of the calibration."""
    generator, seen = np.random.default_rng(0), []
    for _ in range(CHECKS):
        order = generator.permutation(len(usual))
        same = SameWay(detector, permutations=499).fit_readings(usual[order[CHECKED:]])
        seen.append(same.check_readings(arrived[order[:CHECKED]]).p_value < 0.01)
    return float(np.mean(seen))


def _stream(
    detector: ViyogResidue, usual: np.ndarray, arrived: np.ndarray, *, reference: bool
) -> dict[str, str | float]:
    """Drawn with replacement, calibration and stream from the same photographs."""
    generator, alarms, delays = np.random.default_rng(0), 0, []
    for _ in range(STREAMS):
        same = SameWay(detector, permutations=99)
        same.fit_readings(usual[generator.integers(len(usual), size=CALIBRATED)])
        if reference:
            stream = usual[generator.integers(len(usual), size=STREAM)]
            alarms += len(same.update_readings(stream))
            continue
        count = 0
        while count < PATIENCE and not same.update_readings(
            arrived[generator.integers(len(arrived), size=1)]
        ):
            count += 1
        delays.append(count + 1)
    if reference:
        return {"images until the stream's alarm": f"{alarms} alarms in {STREAM * STREAMS:,}"}
    late = f"> {PATIENCE}" if np.median(delays) > PATIENCE else f"{np.median(delays):.0f}"
    return {"images until the stream's alarm": late}


def other_way_rows(
    cache: Cache,
    model: nn.Module,
    brought: Callable[[str], Tensor],
    attacks: Callable[[str, int], Tensor],
) -> Iterator[Rows]:
    """
    :return: detectors that were fitted on one way and meet another: each half of the photographs
        is fitted on in turn, and of the other half, each half sets thresholds in turn; all rows so
        far, after each fit
    """
    rows: Rows = []
    for fitted, mets in tqdm(FITTED_ON.items(), desc="other ways"):

        def readings(fitted: str = fitted, mets: tuple[str, ...] = mets) -> Tensor:
            found = []
            for own, other in _turns(brought(fitted)):
                detector = ViyogResidue(model).fit(brought(fitted)[own].split(BATCH))
                found += [read(detector, brought(way)[other])[:, -3:] for way in (fitted, *mets)]
                if own.start is None:  # attacked photographs are of the second half
                    strong = [read(detector, attacks(way, 4))[:, -3:] for way in mets]
            return torch.cat([*found, *strong])

        scores = cache(f"fitted on {fitted}", readings)
        halves = 2 * (1 + len(mets))
        count = len(brought(fitted)) // 2
        first, second = scores[: halves * count].view(2, 1 + len(mets), count, -1)
        attacked = scores[halves * count :].chunk(len(mets))
        for place, (met, strong) in enumerate(zip(mets, attacked, strict=True), 1):
            raised = [
                turn[place][test] > turn[0][known].quantile(0.95, dim=0)
                for turn in (first, second)
                for known, test in _turns(turn[0])
            ]
            rates = torch.cat(raised).double().mean(dim=0)
            row: dict[str, str | float] = {"fitted on": fitted, "met": met}
            row |= {"FP: residue": float(rates[1]), "FP: alarm": float(rates[2])}
            rows.append(row | {"PGD 4: ADV": share(strong[:, 0] > 0)})
        yield rows


def _turns(x: Tensor) -> list[tuple[slice, slice]]:
    """One half and the other, and the other way round."""
    half = len(x) // 2
    return [(slice(half), slice(half, 2 * half)), (slice(half, 2 * half), slice(half))]
