"""The price of evasion of systems that were hardened: attacks, rows and report.

What is attacked is in ``hardening_systems.py``, the command line in ``hardening.py``.
"""

import argparse
import math
from collections import Counter

import pandas
import torch
from hardening_systems import BEFORE, SYSTEMS, Parts
from images import fit_images, test_images
from prepare import CONFIGS, load_model
from pytorch_ood.api import Detector
from separation_report import markdown
from separation_scores import score_all
from torch import Tensor

from pytorch_ood_viyog.benchmark import Evasion, evasion
from pytorch_ood_viyog.benchmark.evasion.attacks import FAMILIES
from pytorch_ood_viyog.benchmark.evasion.systems.preparing import ALONE
from pytorch_ood_viyog.triage.conformal import alarm_thresholds

__all__ = ["MODELS", "adaptive_report", "adaptive_rows", "price_of"]

MODELS = ("cifar10-3x3", "photo15-3x3", "gtsrb-3x3")
# slow, and hardly ever the first to get through
_SKIPPED = ("penalty", "square")
# how often a system with random parts is asked
_DRAWS = 4
# small: what is finished is kept
_BATCH = 8
# images that detectors are fitted on, and that thresholds are set on, p-values are read off, and
# alarms are counted on
_FITTED, _CALIBRATED = 1500, 400
_FALSE_ALARMS = 0.05

Row = dict[str, str | int | float]


def price_of(name: str, arguments: argparse.Namespace) -> tuple[Evasion, dict[str, float]]:
    """
    :param name: a key of ``prepare.CONFIGS``
    :param arguments: folders ``data`` and ``cache``, images ``n``, ``steps`` and ``systems``
    :return: what evading the systems costs, and their shares of alarms on ID images that nothing
        was fitted, compared or calibrated on
    """
    images, n = CONFIGS[name].images, arguments.n
    model = load_model(name, arguments.data, arguments.cache).requires_grad_(False)
    fit, test = fit_images(images, arguments.data), test_images(images, arguments.data)
    held, compared, new = torch.split(test.x[n : n + 3 * _CALIBRATED], _CALIBRATED)
    parts = Parts(model, fit.x[:_FITTED], compared)
    systems = {system: SYSTEMS[system](parts) for system in arguments.systems}
    found = evasion(
        systems,
        test.x[:n],
        test.y[:n],
        model=model,
        calibration=held,
        alarms=_FALSE_ALARMS,
        attacks=[family for family in FAMILIES if family not in _SKIPPED],
        steps=arguments.steps,
        draws=_DRAWS,
        checks=0,
        batch_size=_BATCH,
        cache=arguments.cache / "hardening" / name,
    )
    alarms = {s: _alarms(each, held, new) for s, each in systems.items()}
    return found, alarms


def _alarms(detector: Detector, held: Tensor, new: Tensor) -> float:
    known, unseen = (score_all(detector.predict, x) for x in (held, new))
    limit = alarm_thresholds({"": known}, _FALSE_ALARMS, {"": 1.0})[""]
    return float((unseen > limit).double().mean())


def adaptive_rows(name: str, found: Evasion, alarms: dict[str, float]) -> list[Row]:
    """
    :param name: of the configuration
    :param found: what evading its systems costs
    :param alarms: their shares of alarms on new ID images
    :return: a row for each system
    """
    rows: list[Row] = []
    for system, result in found.systems.items():
        accepted = {f"{255 * b:g}/255": share for b, share in found.accepted(system).items()}
        got = Counter(attack for attack in result.attack if attack)
        row = {"config": name, "system": system, "n": len(found.index), **accepted}
        row |= {"half": 255 * found.half(system), "price": _price(found, system)}
        rows.append(row | {"ID alarms": alarms.get(system, 0.0), "by": _most(got)})
    return rows


def _price(found: Evasion, system: str) -> str:
    if math.isinf(alone := found.half(ALONE)):
        return "–"
    most = found.budgets[-1] / alone
    price, low, high = (
        f"{value:.2f}" if math.isfinite(value) else f"> {most:.2f}"
        for value in found.price(system)
    )
    return f"{price} ({low} to {high})"


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{attack} {count}" for attack, count in counts.most_common(2))


def adaptive_report(rows: pandas.DataFrame, options: str = "") -> str:
    """
    :param rows: rows of ``hardening.csv``
    :param options: of the command line that they were made by
    :return: the report
    """
    shares = [column for column in rows.columns if column.endswith("/255")]
    lines = [["configuration", "system", *shares, "price", "ID alarms", "first through"]]
    for _, row in rows.iterrows():
        values = [*(f"{row[share]:.2f}" for share in shares), row["price"]]
        values += [f"{row['ID alarms']:.3f}", row["by"]]
        lines.append([row["config"], row["system"], *values])
    counts = ", ".join(f"{n} on {name}" for name, n in rows.groupby("config")["n"].first().items())
    return "\n\n".join(
        [
            "# Hardening",
            f"Made by `python examples/benchmarks/hardening.py --data DATA_FOLDER --part adaptive"
            f"{options}`. "
            f"An attacker who knows all of the system, {counts} images that the classifier gets "
            f"right, all attacks but {' and '.join(_SKIPPED)}. Share of the images that fool the "
            "classifier and raise no alarm, by the strongest of all attacks for each; *price*: "
            "the change that half of them need over the one for the classifier alone, with its "
            "95 % bootstrap interval. Each system as a whole has its threshold at 5 % alarms on "
            "ID images; *ID alarms* are those on other ones. "
            f"{' and '.join(BEFORE)} are what there was, all others what was tried. "
            "Views and shifts were chosen by a look at attacks of fewer steps on the "
            "same images of cifar10-3x3 and photo15-3x3.",
            markdown(lines) + "\n",
        ]
    )
