"""Detectors of other libraries beside ours: one classifier, the same images, T1, T2 and T3.

.. code-block:: bash

    python examples/benchmarks/peers.py --data DATA_FOLDER \\
        --python scio=PYTHON torch-uncertainty=PYTHON oodeel=PYTHON

scio needs Python 3.12 and oodeel NumPy below 2, so each library runs in an environment of its
own, whose interpreter is named; ``peers_adapters.py`` says how detectors are used. Scores are
kept in the cache folder as they come, and a run that is stopped goes on where it was. A library
that is not installed, and a detector that fails, has a line that says why. What oodeel 0.4.0
asks for does not suffice: it needs faiss-cpu and, with its NumPy, pyarrow below 21 as well.
torch-uncertainty asks for lightning in its extras ``cpu`` and ``gpu`` only.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import peers_adapters
import torch
from options import benchmark_parser
from prepare import ATTACKS
from separation_scores import Score, Setting, load_setting, score_all
from sources import key, stored
from tables import markdown, save_page
from torch import Tensor

from pytorch_ood_viyog import Triage, ViyogResidue
from pytorch_ood_viyog.benchmark.attacks.craft import craft
from pytorch_ood_viyog.benchmark.baselines import baseline_detectors
from pytorch_ood_viyog.detectors.residue_view import ResidueView
from pytorch_ood_viyog.evaluation import viyog_metrics
from pytorch_ood_viyog.triage.odds import AdversarialOdds

_CONFIG, _ATTACKS = "gtsrb-3x3", ("pgd8", "pgd2", "cw")
_ATTACKED = 400
_FIT, _ID, _ADV, _OOD, _OBVIOUS = 800, 200, 100, 40, 100
# what is unlike the images of the fit beyond doubt, though not to every detector
_ATTACKED_TRAIN = {"crossed": "deepfool", "pushed": "pgd8"}
_OBVIOUS_SETS = ("blends", *_ATTACKED_TRAIN)
_LIBRARY = ("Energy", "Mahalanobis", "kNN", "ViM")
OURS, POOD = "viyog", "pytorch-ood"

Scores = Mapping[str, Tensor]


@dataclass(frozen=True)
class Row:
    """
    :param library: whose detector it is
    :param values: column -> AUROC and FPR95
    :param error: why there are none
    """

    library: str
    name: str
    values: Mapping[str, tuple[float, float]]
    error: str = ""


def images(setting: Setting) -> dict[str, Tensor]:
    """:return: groups to score; ``plain`` are training images that nothing is fitted to"""
    model, held = setting.model, setting.fit[_FIT : _FIT + _OBVIOUS]
    plain = held.pixels.int()
    # each with one of another class
    other = [int((held.y != label).nonzero()[i % 50]) for i, label in enumerate(held.y)]
    return {
        "id": setting.clean[:_ID],
        **{f"adv/{name}": found.x[:_ADV] for name, found in setting.adv.items()},
        **{f"ood/{name}": setting.ood[name][:_OOD] for name in setting.natural},
        "plain": held.x,
        "blends": (plain + plain[other]).div(2, rounding_mode="floor") / 255,
        **{
            name: craft(model, ATTACKS[a], held.x, held.y).x for name, a in _ATTACKED_TRAIN.items()
        },
    }


def ours(setting: Setting) -> dict[str, Score]:
    """:return: our detectors and some of pytorch-ood, fitted to what those of the peers are"""
    model, fit = setting.model, setting.fit[:_FIT]
    batches = list(zip(fit.x.split(50), fit.y.split(50), strict=True))
    residue = ViyogResidue(model).fit(batches, progress=False)
    triage = Triage(model).fit(batches, progress=False)

    def outlying(x: Tensor) -> Tensor:
        odds = triage.log_odds(x)  # of ID, OOD, ADV, NOISY
        return odds[:, 1] - odds[:, [0, 2, 3]].logsumexp(1)

    found: dict[str, Score] = {
        "ViyogResidue": residue,
        "ResidueOutlier": ResidueView(residue, reading="outlier"),
        "Triage, ADV": AdversarialOdds(triage),
        "Triage, OOD": outlying,
    }
    for name, detector in baseline_detectors(model, fit.x[:2], list(_LIBRARY)).items():
        found[name] = detector.fit(batches) if detector.requires_fit else detector
    return found


def run_peers(folder: Path, pythons: Mapping[str, str]) -> dict[str, str]:
    """
    :param folder: with what the adapters read
    :param pythons: library -> interpreter that has it
    :return: library -> why it did not run
    """
    problems = {}
    for library in peers_adapters.LIBRARIES:
        command = [pythons.get(library, sys.executable), peers_adapters.__file__, library]
        done = subprocess.run([*command, str(folder)], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            problems[library] = (done.stderr.strip().splitlines() or ["stopped"])[-1]
    return problems


def row(library: str, name: str, scores: Scores) -> Row:
    """:return: AUROC and FPR95 by column, in the detector's own direction"""
    ood = [group for group in scores if group.startswith("ood/")]
    pairs = {column: [("plain", column)] for column in _OBVIOUS_SETS}
    pairs["T1"] = [("id", group) for group in ood]
    for attack in _ATTACKS:
        pairs[f"T2 {attack}"] = [("id", f"adv/{attack}")]
        pairs[f"T3 {attack}"] = [(group, f"adv/{attack}") for group in ood]
    finite = {group: found.nan_to_num(posinf=1e300) for group, found in scores.items()}
    values = {}
    for column, compared in pairs.items():
        found = [viyog_metrics(finite[low], finite[high]) for low, high in compared]
        values[column] = fmean(m["AUROC"] for m in found), fmean(m["FPR95"] for m in found)
    return Row(library, name, values)


def rows_of_peers(folder: Path, problems: Mapping[str, str]) -> list[Row]:
    """:return: of each detector that has scores or a reason why not"""
    rows = [Row(library, "all", {}, why) for library, why in problems.items()]
    for library in peers_adapters.LIBRARIES:
        for path in sorted((folder / library).glob("*.npz")):
            with np.load(path) as found:
                scores = {group: torch.from_numpy(found[group]) for group in found}
            rows.append(row(library, path.stem, scores))
        for path in sorted((folder / library).glob("*.txt")):
            rows.append(Row(library, path.stem, {}, path.read_text(encoding="utf-8")))
    return rows


def beaten(rows: list[Row]) -> str:
    """:return: a line for each column: who of the peers is above ours"""
    ran = [r for r in rows if r.values]
    lines = []
    for column in ran[0].values:
        if column in _OBVIOUS_SETS:
            continue
        best = max((r for r in ran if r.library == OURS), key=lambda r: r.values[column])
        above = [r for r in ran if r.library != OURS and r.values[column] > best.values[column]]
        above.sort(key=lambda r: r.values[column], reverse=True)
        told = ", ".join(f"{r.library} {r.name} {r.values[column][0]:.3f}" for r in above)
        lines.append(
            f"- {column}: {best.name} {best.values[column][0]:.3f}, "
            + (f"beaten by {told}." if told else "beaten by none.")
        )
    return "\n".join(lines)


def page(rows: list[Row], versions: Mapping[str, str], accuracy: str) -> str:
    """:return: the page, what beats ours first"""
    ran = sorted((r for r in rows if r.values), key=_mission, reverse=True)
    columns = [column for column in ran[0].values if column not in _OBVIOUS_SETS]
    table = [["detector", "of", *columns, "direction"]]
    for r in ran:
        cells = [f"{r.values[c][0]:.2f} / {r.values[c][1]:.2f}" for c in columns]
        table.append([r.name, r.library, *cells, "{:.2f} ({})".format(*_obvious(r))])
    doubtful = [f"{r.library} {r.name}" for r in ran if _obvious(r)[0] < 0.5]
    failed = [f"- {r.library}, {r.name}: {r.error}" for r in rows if r.error]
    parts = [
        "# Detectors of other libraries",
        "Who of the others is above the best of ours (ViyogResidue, ResidueOutlier, and the "
        "log-odds of ADV and of OOD in `Triage`), by mean AUROC:",
        beaten(rows),
        "## All detectors",
        "`python examples/benchmarks/peers.py --data DATA_FOLDER --python LIBRARY=PYTHON ...`: "
        f"{_CONFIG}, {accuracy}. All are fitted to the "
        f"same {_FIT} training images and score {_ID} ID images, {_OOD} of each of eight natural "
        f"OOD sets, and the first {_ADV} successes of each attack, rounded to 8 bit. AUROC / FPR "
        f"at 95 % TPR; T1: OOD against ID, T2: ADV against ID, T3: ADV against OOD, which is the "
        f"task here and by whose mean AUROC rows are ordered; mean over OOD sets. AUROC is good "
        f"to about ±0.03.",
        "Each detector keeps its own direction, larger for what is unlike the images of the fit. "
        f"That it is the right one was found out on {_OBVIOUS} training images that none was "
        f"fitted to, and not on the sets of the table: against blends of two of different "
        f"classes, against the same images moved just over a border by DeepFool (crossed), and "
        f"far over it by PGD 8/255 (pushed); the column has the best AUROC of the three. "
        f"Below 0.5 on all: {', '.join(doubtful) or 'none'}. Parameters are the libraries' own, "
        f"but for neighbours: 10, as there are 19 images a class; pytorch-ood's kNN keeps 50.",
        markdown(table),
        *(["Did not run:", "\n".join(failed)] if failed else []),
        "; ".join(f"{library}: {told}" for library, told in versions.items()) + ".",
    ]
    return "\n\n".join(parts)


def _obvious(r: Row) -> tuple[float, str]:
    return max((r.values[group][0], group) for group in _OBVIOUS_SETS)


def _mission(r: Row) -> float:
    return fmean(v[0] for column, v in r.values.items() if column.startswith("T3"))


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="LIBRARY=PYTHON", help="default: this Python"
    )
    options = parser.parse_args()
    setting = load_setting(_CONFIG, options.data, options.cache, _ATTACKS, _ATTACKED)
    groups = images(setting)
    fit = setting.fit[:_FIT]
    same = {**groups, "fit": fit.pixels}
    folder = options.cache / "peers" / key(peers_adapters.__file__, setting.model, same)[:12]
    folder.mkdir(parents=True, exist_ok=True)
    # traced, since the other environment has no classes of ours
    torch.save(torch.fx.symbolic_trace(setting.model), folder / "model.pt")
    pixels = {name: (x * 255).round().byte().numpy() for name, x in groups.items()}
    np.savez(folder / "images.npz", fit=fit.pixels.numpy(), labels=fit.y.numpy(), **pixels)
    problems = run_peers(folder, dict(pair.split("=", 1) for pair in options.python))

    def compute() -> dict[str, dict[str, Tensor]]:
        return {
            name: {group: score_all(score, x) for group, x in groups.items()}
            for name, score in ours(setting).items()
        }

    known = stored(folder / "ours.pt", key(__file__, setting.model, same), False, compute)
    rows = [row(POOD if name in _LIBRARY else OURS, name, s) for name, s in known.items()]
    rows += rows_of_peers(folder, problems)
    right = (setting.model(groups["id"]).argmax(1) == setting.test.y[_ATTACKED:][:_ID]).float()
    files = {library: folder / library / "versions" for library in peers_adapters.LIBRARIES}
    versions = {library: file.read_text() for library, file in files.items() if file.exists()}
    text = page(rows, versions, f"accuracy {right.mean():.3f} on the ID images")
    print(save_page(Path(options.out) / "peers.md", text, __file__))


if __name__ == "__main__":
    main()
