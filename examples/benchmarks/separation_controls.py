"""Controls: what the detectors say of images that somebody changed without meaning harm.

Sensor noise on ID and OOD images, and ID images that were compressed, blurred or sharpened. None
of them is an attack. A detector's threshold is set so that it takes 5 % of clean ID images for
ADV; the thresholds' images, the images that are changed and the fitting images are disjoint.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from pandas import DataFrame, Series
from PIL import Image, ImageFilter
from separation_scores import DETECTORS, Setting, fitted, key, score_all
from sources import stored
from tables import markdown
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from tqdm import tqdm

from pytorch_ood_viyog.evaluation.metrics import viyog_metrics
from pytorch_ood_viyog.images import BenignChange

Change = Callable[[Tensor], Tensor]
Row = dict[str, str | int | float]

_FALSE_POSITIVES = 0.05
_REFERENCE = "pgd8"
# images of each kind
_ID_IMAGES, _OOD_IMAGES = 400, 100


def each(edit: Callable[[Image.Image], Image.Image]) -> Change:
    """:return: applies an edit of Pillow to each image"""

    def change(x: Tensor) -> Tensor:
        return torch.stack([pil_to_tensor(edit(to_pil_image(image))) for image in x]).float() / 255

    return change


CLEAN = "none"
CHANGES: dict[str, Change] = {
    CLEAN: lambda x: x,
    "noise 2/255": BenignChange("white noise", 2),
    "noise 8/255": BenignChange("white noise", 8),
    "JPEG quality 90": BenignChange("JPEG", 90),
    "JPEG quality 75": BenignChange("JPEG", 75),
    "blurred (Gaussian, 1 px)": each(lambda i: i.filter(ImageFilter.GaussianBlur(1))),
    "sharpened (unsharp mask, 1 px, 100 %)": each(
        lambda i: i.filter(ImageFilter.UnsharpMask(radius=1, percent=100, threshold=0))
    ),
}
_OOD_CHANGES = (CLEAN, "noise 2/255", "noise 8/255")


def threshold(id_scores: Tensor) -> float:
    """:return: the score that 5 % of the ID scores exceed"""
    return float(torch.quantile(id_scores, 1 - _FALSE_POSITIVES))


def halves(setting: Setting) -> tuple[Tensor, Tensor]:
    """:return: ID images for thresholds, and others to measure on"""
    return setting.clean[::2], setting.clean[1::2][:_ID_IMAGES]


def load_control_rows(setting: Setting, cache: Path, fresh: bool) -> list[Row]:
    """
    :param setting: images and classifier
    :param cache: cache folder
    :param fresh: measure anew even if the cache holds the rows
    :return: a row for each detector, kind of images and change
    """
    path = cache / "separation" / f"{setting.name}-controls.pt"
    return stored(path, key(setting, __file__), fresh, lambda: _rows(setting))


def _rows(setting: Setting) -> list[Row]:
    for_threshold, id_images = halves(setting)
    cases = [("id", name, change(id_images)) for name, change in CHANGES.items()]
    for ood in setting.natural:
        images = setting.ood[ood][:_OOD_IMAGES]
        cases += [(ood, name, CHANGES[name](images)) for name in _OOD_CHANGES]
    cases += [(f"adv/{attack}", CLEAN, examples.x) for attack, examples in setting.adv.items()]
    detectors = {name: score for name, score in fitted(setting).items() if name in DETECTORS[:3]}
    rows: list[Row] = []
    for detector, score in tqdm(detectors.items(), desc=f"controls {setting.name}"):
        limit = threshold(score_all(score, for_threshold))
        reference = score_all(score, setting.adv[_REFERENCE].x)
        for images, change, x in cases:
            scores = score_all(score, x)
            rows.append(
                {
                    "config": setting.name,
                    "detector": detector,
                    "images": images,
                    "change": change,
                    "n": len(x),
                    "flagged": float((scores > limit).double().mean()),
                    "AUROC": float(viyog_metrics(scores, reference)["AUROC"]),
                }
            )
    return rows


def controls_report(rows: DataFrame) -> str:
    """
    :param rows: rows of ``separation_controls.csv``
    :return: the report
    """
    detectors = list(rows["detector"].unique())
    lines = [["images", "change", *(f"{d}: flagged, AUROC" for d in detectors)]]
    kinds = rows["images"].where(
        rows["images"].str.startswith("adv/") | (rows["images"] == "id"), "OOD"
    )
    for (kind, change), of_case in rows.groupby([kinds, "change"], sort=False):
        label = {"id": "ID", "OOD": "natural OOD"}.get(kind, kind.replace("adv/", "ADV "))
        cells = [_cell(of_case[of_case["detector"] == d], kind) for d in detectors]
        lines.append([label, change, *cells])
    return "\n\n".join(
        [
            "# Benign changes",
            "Made by `python examples/benchmarks/separation.py --data DATA_FOLDER --part "
            "controls`. *Flagged*: share of the images above the threshold of 5 % false positives "
            "on clean ID, mean over the configurations (range). Nothing but ADV should be. "
            "*AUROC*: these images against ADV of PGD 8/255.",
            markdown(lines),
            f"What fails: {detectors[0]} takes more than 10 % of these benign images for ADV.\n\n"
            + _false_alarms(rows[rows["detector"] == detectors[0]], kinds)
            + "\n",
        ]
    )


def _cell(rows: DataFrame, kind: str) -> str:
    by_config = rows.groupby("config")["flagged"].mean()
    text = f"{by_config.mean():.0%} ({by_config.min():.0%} to {by_config.max():.0%})"
    return text if kind.startswith("adv/") else f"{text}, {rows['AUROC'].mean():.3f}"


def _false_alarms(rows: DataFrame, kinds: Series) -> str:
    """A line for each benign change that is flagged, with the configurations where it is."""
    lines = []
    benign = rows[~rows["images"].str.startswith("adv/")]
    for (kind, change), of_case in benign.groupby([kinds, "change"], sort=False):
        by_config = of_case.groupby("config", sort=False)["flagged"].mean()
        shares = [f"{config} {share:.0%}" for config, share in by_config.items() if share > 0.1]
        if shares:
            name = {"id": "ID"}.get(kind, "natural OOD")
            lines.append(f"- {name}, {change.replace(CLEAN, 'unchanged')}: {', '.join(shares)}.")
    return "\n".join(lines)
