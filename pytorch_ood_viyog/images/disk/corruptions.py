"""
Sets of common corruptions at five severities, as CIFAR-10-C and ImageNet-C have them.
"""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset

from .files import load_images

__all__ = ["corruption_sets"]

_SEVERITIES = 5


def corruption_sets(
    path: str | Path, size: int | None = None, limit: int | None = None
) -> dict[str, Dataset[Any]]:
    """
    :param path: a ``.npy`` file of one corruption, five severities one after the other, or a
        folder of such files (CIFAR-10-C); or a folder of corruptions with folders ``1`` to ``5``
        (ImageNet-C), or of one of them
    :param size: height and width to bring images to, ``None`` to leave them as they are
    :param limit: at most so many images of each, the same of all severities where they are as
        many
    :return: corruption and severity, such as ``"fog 3"`` -> its images
    :raises FileNotFoundError: if the path does not exist
    :raises ValueError: if there are no corruptions, or images cannot be divided by five
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Give a folder or a .npy file.")
    files = [path] if path.is_file() else sorted(path.glob("*.npy"))
    if files := [file for file in files if file.stem != "labels"]:
        return {k: v for file in files for k, v in _of_array(file, size, limit).items()}
    found: dict[str, Dataset[Any]] = {}
    for folder in sorted(f for f in (path, *path.glob("*/"), *path.glob("*/*/")) if f.is_dir()):
        for severity in range(1, _SEVERITIES + 1):
            images = folder / str(severity)
            if images.is_dir():
                found[f"{folder.name} {severity}"] = load_images(
                    images, size, limit, labelled=False
                )
    if not found:
        raise ValueError(
            f"{path} holds neither .npy files of corruptions nor folders of them with folders 1 "
            f"to {_SEVERITIES}."
        )
    return found


def _of_array(file: Path, size: int | None, limit: int | None) -> dict[str, Dataset[Any]]:
    images = load_images(file, size)
    count, rest = divmod(len(images), _SEVERITIES)  # type: ignore[arg-type]
    if rest:
        raise ValueError(
            f"{file} must hold {_SEVERITIES} severities of as many images, got {len(images)}."  # type: ignore[arg-type]
        )
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit]
    return {
        f"{file.stem} {severity + 1}": Subset(images, (chosen + severity * count).tolist())
        for severity in range(_SEVERITIES)
    }
