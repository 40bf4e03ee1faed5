"""
Figures of where in an image a residue is. Needs matplotlib, which the extra ``examples`` brings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from .plotting import pyplot, write_figure

__all__ = ["plot_residue_map"]

# strength, in 1/255, at which the colours end
_STRONGEST = 10.0
_INCHES = 2.1


def plot_residue_map(
    image: Tensor,
    residue_map: Tensor,
    path: str | Path,
    *,
    verdict: str | Sequence[str] = "",
) -> Path:
    """
    Images beside the same with their residue map as an overlay, whose scale is in grey levels of
    255, and the verdict below. Several images make several pairs.

    :param image: :math:`C \\times H \\times W` in [0, 1], of one or three channels, or
        :math:`N \\times C \\times H \\times W`
    :param residue_map: strengths as of
        :meth:`~pytorch_ood_viyog.detectors.residue.ViyogResidue.residue_map`,
        :math:`H' \\times W'` or :math:`N \\times H' \\times W'`
    :param path: PNG file to write; folders are made
    :param verdict: what is written below each image, such as its verdict
    :return: the file
    :raises ImportError: if matplotlib is not installed
    :raises ValueError: if images, maps and verdicts do not go together
    """
    images = image[None] if image.dim() == 3 else image
    maps = residue_map[None] if residue_map.dim() == 2 else residue_map
    verdicts = [verdict] * len(images) if isinstance(verdict, str) else list(verdict)
    _check(images, maps, verdicts)
    plt = pyplot()
    across = min(3, len(images))
    down = -(-len(images) // across)
    figure, axes = plt.subplots(
        down,
        2 * across,
        figsize=(2 * across * _INCHES + 0.6, down * (_INCHES + 0.3)),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.axis("off")
    shown = None
    for i, (one, own, text) in enumerate(zip(images, maps, verdicts, strict=True)):
        row, column = divmod(i, across)
        plain, overlaid = axes[row, 2 * column], axes[row, 2 * column + 1]
        _draw(plain, one)
        shown = _overlay(overlaid, one, own)
        plain.text(0.0, -0.03, text, transform=plain.transAxes, va="top", fontsize=8)
    figure.colorbar(shown, ax=axes, label="residue in 1/255", shrink=0.8, pad=0.01)
    return write_figure(plt, figure, path)


def _check(images: Tensor, maps: Tensor, verdicts: Sequence[str]) -> None:
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"image must have the shape (C, H, W) or (N, C, H, W) with one or three channels, got "
            f"{tuple(images.shape)}."
        )
    if maps.dim() != 3 or not len(images) == len(maps) == len(verdicts) or not len(maps):
        raise ValueError(
            f"residue_map must have the shape (H', W'), or (N, H', W') and a verdict for each of "
            f"{len(images)} images, got {tuple(maps.shape)} and {len(verdicts)} verdicts."
        )


def _draw(axis: Any, image: Tensor, alpha: float = 1.0) -> None:
    pixels = image.detach().cpu().float().clamp(0, 1).movedim(0, -1).numpy()
    axis.imshow(np.repeat(pixels, 3 // pixels.shape[2], axis=2), alpha=alpha)


def _overlay(axis: Any, image: Tensor, residue_map: Tensor) -> Any:
    size = tuple(image.shape[1:])
    own = residue_map.detach().cpu().float()[None, None]
    fine = 255 * interpolate(own, size=size, mode="bilinear", align_corners=False)[0, 0]
    grey = image.mean(dim=0, keepdim=True)
    _draw(axis, grey, alpha=0.6)
    return axis.imshow(fine.numpy(), cmap="magma", vmin=0, vmax=_STRONGEST, alpha=0.65)
