"""What lowers the share of attacks that get through, against an attacker who knows all of it.

.. code-block:: bash

    python examples/benchmarks/hardening.py --data DATA_FOLDER

Two parts: ``blurred``, an attacker who blurs and knows no detector (``hardening_blurred.md``), and
``adaptive``, one who knows all of the system (``hardening.md``), see ``evasion.py``. Everything is
fitted and calibrated on ID images alone; each system as a whole raises alarms for 5 % of them.
Finished batches of adaptive attacks are kept in the cache folder: an interrupted run goes on where
it stopped.
"""

import argparse
import shlex
from pathlib import Path

import pandas
import torch
from hardening_price import MODELS, adaptive_report, adaptive_rows, price_of
from hardening_systems import SYSTEMS
from images import Images, fit_images, test_images
from options import benchmark_parser
from prepare import CONFIGS, load_attack, load_model
from separation_controls import threshold
from separation_report import markdown
from separation_scores import score_all
from smooth_pgd import SmoothPGD
from torch import Tensor, nn
from tqdm import tqdm

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.benchmark.attacks.craft import round_to_8_bit
from pytorch_ood_viyog.detectors import ResidueAlarm
from pytorch_ood_viyog.triage.conformal import alarm_thresholds

# width of the blur in pixels, budget of 255
_BLURRED = ((0.7, 8), (1.5, 8), (0.7, 4))
_WHITE = ("pgd8", "pgd2")
_BLURRED_MODELS = ("photo15-3x3", "cifar10-3x3", "gtsrb-3x3", "photo15-7x7")
_ATTACKED, _CRAFTED = 60, 400
# images of each kind that are scored, and that detectors are fitted on
_SCORED, _FITTED = 300, 1500
_FALSE_ALARMS = 0.05

Row = dict[str, str | int | float]


def blurred_rows(name: str, data: Path, cache: Path) -> list[Row]:
    """
    :param name: a key of ``prepare.CONFIGS``
    :param data: data folder
    :param cache: cache folder
    :return: a row for ID images and for each attack that knows no detector: shares with an alarm
    """
    images = CONFIGS[name].images
    model = load_model(name, data, cache).requires_grad_(False)
    fit, test = fit_images(images, data)[:_FITTED], test_images(images, data)
    residue = ViyogResidue(model).fit(torch.split(fit.x, 100))
    # ID images that were not attacked, unless hardly any are left
    clean = (test[_CRAFTED:] if len(test) >= 2 * _CRAFTED else test).x[: 2 * _SCORED]
    detectors = {
        "ViyogResidue": residue,
        "white": ResidueAlarm(residue),
        "smooth": ResidueAlarm(residue, residues="smooth"),
    }
    known = {n: score_all(each.predict, clean[::2]) for n, each in detectors.items()}
    both = {n: known[n] for n in ("white", "smooth")}
    shared = alarm_thresholds(both, _FALSE_ALARMS, dict.fromkeys(both, 0.5))
    groups = {"ID": clean[1::2]}
    for attack in _WHITE:
        crafted = load_attack(name, attack, model, test, cache, _CRAFTED, progress=False)
        groups[attack] = crafted.x[:_SCORED]
    groups |= _blurred(model, test[:_ATTACKED])
    rows: list[Row] = []
    for group, x in tqdm(groups.items(), desc=name):
        scores = {n: score_all(each.predict, x) for n, each in detectors.items()}
        alarms = {n: s > threshold(known[n]) for n, s in scores.items()}
        alarms["white and smooth"] = torch.stack([scores[n] > shared[n] for n in both]).any(dim=0)
        shares = {n: float(alarm.double().mean()) for n, alarm in alarms.items()}
        rows.append({"config": name, "images": group, "n": len(x), **shares})
    return rows


def _blurred(model: nn.Module, test: Images) -> dict[str, Tensor]:
    """Successful attacks with a blurred perturbation."""
    x, y = test.x, test.y
    right = model(x).argmax(dim=1) == y
    groups = {}
    for width, budget in _BLURRED:
        torch.manual_seed(0)
        attacked = round_to_8_bit(SmoothPGD(budget / 255, width)(model, x[right], y[right]))
        success = model(attacked).argmax(dim=1) != y[right]
        groups[f"PGD {budget}/255, blurred {width:g} px"] = attacked[success]
    return groups


def blurred_report(rows: pandas.DataFrame) -> str:
    """
    :param rows: rows of ``hardening_blurred.csv``
    :return: the report
    """
    systems = list(rows.columns[3:])
    lines = [["configuration", "images", "n", *systems]]
    for _, row in rows.iterrows():
        shares = [f"{row[name]:.2f}" for name in systems]
        lines.append([row["config"], row["images"], str(row["n"]), *shares])
    return "\n\n".join(
        [
            "# Alarms for smooth attacks that know no detector",
            "Made by `python examples/benchmarks/hardening.py --data DATA_FOLDER --part blurred`. "
            "Share of images with an alarm, thresholds at 5 % alarms on other ID images; *white* "
            "and *smooth* are `ResidueAlarm` with these residues, *white and smooth* raises an "
            "alarm where either does, 5 % in all. PGD of 20 steps, its perturbation blurred in "
            "each; rounded to 8 bit, counted where it succeeds. The width of the simulated "
            "residues, 1.5 px, and their normalisation were chosen by a look at such attacks on "
            "photo15-3x3 and cifar10-3x3; the other configurations had no say.",
            markdown(lines) + "\n",
        ]
    )


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--part", choices=("blurred", "adaptive", "all"), default="all")
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, help="default: four and three")
    parser.add_argument("--n", type=int, default=24, help="images each, default: 24")
    parser.add_argument("--steps", type=int, default=20, help="steps of an attack, default: 20")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    if arguments.part != "adaptive":
        for name in arguments.configs or _BLURRED_MODELS:
            rows += blurred_rows(name, arguments.data, arguments.cache)
        table = pandas.DataFrame(rows)
        table.to_csv(arguments.out / "hardening_blurred.csv", index=False, float_format="%.4g")
        report = blurred_report(table)
        (arguments.out / "hardening_blurred.md").write_text(report, encoding="utf-8")
        print(report, flush=True)
    if arguments.part != "blurred":
        rows = []
        for name in arguments.configs or MODELS:
            rows += adaptive_rows(name, *price_of(name, arguments))
            write(rows, arguments.out, _options(parser, arguments))


def _options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """:return: the options of the attacks that are not the default ones"""
    texts = []
    for name in ("configs", "n", "steps", "systems"):
        value = getattr(arguments, name)
        if value != parser.get_default(name):
            values = value if isinstance(value, list) else [str(value)]
            texts.append(f" --{name} {shlex.join(values)}")
    return "".join(texts)


def write(rows: list[Row], out: Path, options: str = "") -> None:
    """
    :param rows: what was found for the configurations that are done
    :param out: folder for the table
    :param options: of the command line
    """
    table = pandas.DataFrame(rows)
    table.to_csv(out / "hardening.csv", index=False, float_format="%.4g")
    report = adaptive_report(table, options)
    (out / "hardening.md").write_text(report, encoding="utf-8")
    print(report, flush=True)


if __name__ == "__main__":
    main()
