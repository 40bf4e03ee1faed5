"""The page of other people's attacks: every attack, the kinds of change, OOD sets, verdicts."""

import contextlib
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from statistics import fmean
from typing import Any

from foreign_list import LIBRARIES

from pytorch_ood_viyog import Verdict
from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.attacks import AttackSize

__all__ = ["kind", "page"]

Columns = Sequence[tuple[str, Callable[[str], str]]]
# kinds of change, by what is measured
_SPARSE = "sparse (under a quarter of the pixels)"
_BOUNDED = "L∞ up to 8/255"
_SMALL = "L2 up to 1"
_LARGE = "large"
# an attack that the best detector tells from ID no better than this is a blind spot
_BLIND = 0.8


def kind(size: AttackSize) -> str:
    """:return: what sort of change the successes of an attack are"""
    if size.pixels < 0.25:
        return _SPARSE
    if size.linf < 8.5:
        return _BOUNDED
    return _SMALL if size.l2 <= 1 else _LARGE


def page(
    bench: AdversarialBenchmark,
    problems: Mapping[str, str],
    verdicts: Sequence[Mapping[str, Any]],
    options: Any,
) -> str:
    """
    :param bench: evaluated
    :param problems: what could not be made -> why
    :param verdicts: rows of ``bench.verdicts``; may be empty
    :param options: of the command line
    :return: the whole page
    """
    sizes = bench.attack_sizes()
    ran = [size for size in sizes.values() if not size.error]
    fooled, left = (sum(getattr(s, field) for s in ran) for field in ("fooled", "succeeded"))
    auroc = _auroc(bench)
    parts = [
        "# Attacks of other libraries",
        f"`python examples/benchmarks/foreign.py --data DATA_FOLDER "
        f"{'--verdicts ' if options.verdicts else ''}--seconds {options.seconds:g} "
        f"--test {options.test}`: three convolutions that know traffic signs "
        f"(GTSRB at 32 pixels), whose clean accuracy is {bench.clean_accuracy():.3f} on "
        f"{len(bench.id_test)} images. Those that it "
        f"is right about of the first {options.attacked} are attacked with few steps and up to "
        f"{options.seconds:g} s of CPU for each attack: this is what runs and what is seen, not "
        f"what an attack can do. {versions()}.",
        f"{len(sizes)} attacks of {', '.join(options.libraries)}, of which {len(ran)} ran to "
        f"their end; none ended the run. They fooled the classifier {fooled} times before "
        f"rounding to 8 bit and {left} times after it. L2 for images in [0, 1], L∞ in 1/255, "
        f"pixels: share of those changed. Each detector: AUROC ID-vs-ADV / OOD-vs-ADV (mean over "
        f"the OOD sets), ADV positive, in the detector's own direction. With so few images an "
        f"AUROC is good to about ±0.1. The attack that the best of the detectors sees least is "
        f"first.",
        _attacks(bench, sizes, auroc, {row["Images"]: row for row in verdicts}),
        "## By kind of change",
        "Mean AUROC ID-vs-ADV over the attacks whose successes are of a kind, as measured.",
        _kinds(bench, sizes, auroc),
        _blind(bench, sizes, auroc),
        "## OOD",
        "AUROC ID-vs-OOD, OOD positive; ours are made to be below 0.5.",
        _table(list(bench.ood), "OOD set", _ood_columns(bench, auroc)),
    ]
    if problems:
        parts += ["## Could not be made", *(f"- {n}: {why}" for n, why in problems.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


Aurocs = Mapping[tuple[str, str, str], float]


def _auroc(bench: AdversarialBenchmark) -> Aurocs:
    """:return: task, detector, positive images -> AUROC, the mean where there are several"""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in bench.rows:
        positive = row["Dataset"] if row["Task"] == "T1" else row["Attack"]
        found.setdefault((row["Task"], row["Detector"], positive), []).append(row["AUROC"])
    return {key: fmean(values) for key, values in found.items()}


def _best(bench: AdversarialBenchmark, auroc: Aurocs, attack: str) -> tuple[float, str]:
    """:return: the largest AUROC ID-vs-ADV, and whose it is"""
    values = [(auroc["T2", d, attack], d) for d in bench.detectors]
    return max((pair for pair in values if pair[0] == pair[0]), default=(math.nan, ""))


def _attacks(
    bench: AdversarialBenchmark,
    sizes: Mapping[str, AttackSize],
    auroc: Aurocs,
    verdicts: Mapping[str, Mapping[str, Any]],
) -> str:
    best = {a: _best(bench, auroc, a)[0] for a in sizes}
    order = sorted(sizes, key=lambda a: (math.isnan(best[a]), best[a]))
    columns: Columns = [
        ("fooled", lambda a: f"{sizes[a].fooled} of {sizes[a].attacked}"),
        ("after rounding", lambda a: str(sizes[a].succeeded)),
        ("L2", lambda a: _number(sizes[a].l2)),
        ("L∞", lambda a: _number(sizes[a].linf, ".1f")),
        ("pixels", lambda a: _number(sizes[a].pixels, ".0%")),
        *((d, lambda a, d=d: _pair(auroc, d, a)) for d in bench.detectors),
        *(
            (f"→ {v.name}", lambda a, v=v: _number(verdicts[a][v.name], ".0%"))
            for v in Verdict
            if verdicts
        ),
        ("remarks", lambda a: _remark(sizes[a])),
    ]
    table = _table(order, "attack", columns)
    if not verdicts:
        return table
    told = [
        f"{name}: " + ", ".join(f"{v.name} {verdicts[name][v.name]:.0%}" for v in Verdict)
        for name in ("ID", *bench.ood)
    ]
    return f"{table}\n\nVerdicts of `Triage` on clean images, {'; '.join(told)}."


def _kinds(bench: AdversarialBenchmark, sizes: Mapping[str, AttackSize], auroc: Aurocs) -> str:
    own = {
        name: [a for a, s in sizes.items() if s.succeeded >= bench.min_images and kind(s) == name]
        for name in (_BOUNDED, _SMALL, _SPARSE, _LARGE)
    }
    columns: Columns = [
        ("attacks", lambda k: str(len(own[k]))),
        *(
            (d, lambda k, d=d: _number(_mean([auroc["T2", d, a] for a in own[k]])))
            for d in bench.detectors
        ),
    ]
    return _table(list(own), "kind", columns)


def _blind(bench: AdversarialBenchmark, sizes: Mapping[str, AttackSize], auroc: Aurocs) -> str:
    """Whom to ask where the first of the detectors sees little."""
    first = next(iter(bench.detectors))
    found = {a: auroc["T2", first, a] for a in sizes if auroc["T2", first, a] < _BLIND}
    if not found:
        return f"{first} is blind (below {_BLIND}) nowhere."
    told = []
    for attack, value in sorted(found.items(), key=lambda pair: pair[1]):
        best, who = _best(bench, auroc, attack)
        told.append(f"- {attack} ({kind(sizes[attack])}): {value:.2f}, best {who} {best:.2f}")
    head = f"Where {first} is blind (below {_BLIND}), and who sees most:"
    return "\n".join([head, "", *told])


def _ood_columns(bench: AdversarialBenchmark, auroc: Aurocs) -> Columns:
    return [(d, lambda o, d=d: _number(auroc["T1", d, o])) for d in bench.detectors]


def _table(names: Sequence[str], head: str, columns: Columns) -> str:
    titles = [head, *(title for title, _ in columns)]
    lines = [titles, ["---"] * len(titles)]
    lines += [[name, *(cell(name) for _, cell in columns)] for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pair(auroc: Aurocs, detector: str, attack: str) -> str:
    """Without OOD sets the second is not there."""
    second = auroc.get(("T3", detector, attack), math.nan)
    return f"{_number(auroc['T2', detector, attack])} / {_number(second)}"


def _shares(verdicts: Mapping[str, Mapping[str, Any]], verdict: str) -> Callable[[str], str]:
    return lambda attack: _number(verdicts[attack][verdict], ".0%")


def _remark(size: AttackSize) -> str:
    told = {"unchanged": size.unchanged, "not finite": size.broken, "outside": size.outside}
    unusual = ", ".join(f"{count} {what}" for what, count in told.items() if count)
    return (size.error.removeprefix("RuntimeError: ") or unusual).replace("|", "/")


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return fmean(known) if known else math.nan


def _number(value: float, form: str = ".2f") -> str:
    return "–" if math.isnan(value) else format(value, form)


def versions() -> str:
    """:return: of the libraries that are installed, and what they run on"""
    found = []
    for package in (*LIBRARIES, "torch", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return f"Python {platform.python_version()}, {', '.join(found)}"
