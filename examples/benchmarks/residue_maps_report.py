"""The tables and the figure of ``residue_maps.py``."""

from collections.abc import Mapping
from pathlib import Path

import pandas
import torch
from torch import Tensor

from pytorch_ood_viyog.benchmark.attacks import AdversarialExamples
from pytorch_ood_viyog.detectors import ViyogResidueLocal
from pytorch_ood_viyog.evaluation import plot_residue_map

_HEAD = """# Where a residue is

Made by `python examples/benchmarks/residue_maps.py --data DATA_FOLDER`. `quarter8` is PGD of 8/255
that changes a square quarter of the image at a random place, `patch` a square of a fifth of the
side with no bound; the others change all of the image. Attacks are rounded to 8 bit and count
where they succeed; AUROC keeps its direction; detectors are fitted on ID images that are not
measured on, by residues of random signs, of which some fill a random box. That the score is the
larger of two log-likelihood ratios was chosen with a look at such attacks, also at some of these.
"""


def report(table: pandas.DataFrame) -> str:
    """:return: the numbers as Markdown"""
    lines = [
        _HEAD,
        "## Pixels",
        "",
        "AUROC of pixels in the attacked quarter against the others.",
        "",
    ]
    lines += [
        "| | map | mean over images (target ≥ 0.95) | all pixels together |",
        "|---|---|---|---|",
    ]
    pixels = table[table.task == "pixels"]
    for (case, kind), own in pixels.groupby(["model", "what"], sort=False):
        values = dict(zip(own.attack, own.value, strict=True))
        lines.append(f"| {case} | {kind} | {values['each']:.3f} | {values['pooled']:.3f} |")
    for against in ("ID", "OOD"):
        lines += ["", f"## {against}-vs-ADV, AUROC", ""]
        lines += _separation(table[table.task == against])
    lines += ["", "## Time, × ViyogResidue.predict (target ≤ 1.5)", "", "| | | |", "|---|---|---|"]
    for one in table[table.task == "time"].itertuples():
        lines.append(f"| {one.model} | {one.what} | {one.value:.2f} |")
    return "\n".join(lines) + "\n"


def _separation(own: pandas.DataFrame) -> list[str]:
    attacks = list(dict.fromkeys(own.attack))
    lines = [f"| | detector | {' | '.join(attacks)} |", "|---" * (len(attacks) + 2) + "|"]
    for (case, kind), part in own.groupby(["model", "what"], sort=False):
        values = dict(zip(part.attack, part.value, strict=True))
        cells = " | ".join(f"{values[a]:.3f}" if a in values else "–" for a in attacks)
        lines.append(f"| {case} | {kind} | {cells} |")
    return lines


def draw(
    detector: ViyogResidueLocal,
    clean: Tensor,
    adv: Mapping[str, AdversarialExamples],
    path: Path,
) -> None:
    """Draws two clean images, two of which a quarter was attacked, one with a patch, one all."""
    kinds = ["clean", "clean", "quarter8", "quarter8", "patch", "pgd8"]
    pools = {"clean": clean} | {name: examples.x for name, examples in adv.items()}
    chosen = [pools[kind][i % 2] for i, kind in enumerate(kinds)]
    images = torch.stack(chosen)
    scores = detector(images)
    verdicts = [f"{kind}: score {score:.1f}" for kind, score in zip(kinds, scores, strict=True)]
    plot_residue_map(images, detector.residue_map(images), path, verdict=verdicts)
