"""The quickstart's figure: images with their noise floor and verdict, and score distributions."""

from collections.abc import Callable, Mapping

import matplotlib
import numpy as np
import torch
from torch import Tensor

from pytorch_ood_viyog import Verdict

matplotlib.use("Agg")
from matplotlib import pyplot as plt

__all__ = ["draw"]

_COLORS = {"ID": "tab:gray", "OOD": "tab:blue", "ADV": "tab:red", "NOISY": "tab:olive"}
_NAMES = {"ID": "photographs (ID)", "OOD": "other images (OOD)", "ADV": "attacked (ADV)"}


def draw(
    images: Mapping[str, Tensor],
    noise_floor: Callable[[Tensor], Tensor],
    verdict: Callable[[Tensor], Tensor],
    scores: Mapping[str, Mapping[str, Tensor]],
) -> plt.Figure:
    """
    :param images: a few images (N, 3, H, W) of ID, OOD and ADV, each group a row
    :param noise_floor: gives the noise floor of images, in units of 1/255
    :param verdict: gives the verdict for images
    :param scores: for each detector the scores of ID, OOD and ADV
    :return: the figure
    """
    figure = plt.figure(figsize=(10, 8.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[2.1, 1])
    columns = max(map(len, images.values()))
    axes = upper.subplots(len(images), columns, squeeze=False)
    for row, (group, shown) in zip(axes, images.items(), strict=True):
        _draw_images(row, shown, noise_floor(shown), verdict(shown))
        row[0].set_ylabel(_NAMES[group], color=_COLORS[group], fontsize=11)
    upper.suptitle("Under each image: noise floor in 1/255, verdict", fontsize=11)
    for axis, (detector, of) in zip(lower.subplots(1, len(scores)), scores.items(), strict=True):
        _draw_scores(axis, of)
        axis.set_title(detector, fontsize=11)
        axis.set_xlabel("score")
        axis.legend(frameon=False)
    return figure


def _draw_images(row: np.ndarray, images: Tensor, floors: Tensor, verdicts: Tensor) -> None:
    for axis in row:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, image, floor, value in zip(row, images, floors, verdicts, strict=False):
        name = Verdict(int(value)).name
        axis.imshow(image.permute(1, 2, 0).numpy())
        axis.set_xlabel(f"{float(floor):.1f}   {name}", color=_COLORS[name], fontweight="bold")


def _draw_scores(axis: plt.Axes, scores: Mapping[str, Tensor]) -> None:
    values = torch.cat(list(scores.values())).double().numpy()
    bins = np.linspace(values.min(), values.max(), 40)
    for group, sample in scores.items():
        axis.hist(sample.numpy(), bins, alpha=0.6, color=_COLORS[group], label=group)
    axis.set_ylabel("images")
