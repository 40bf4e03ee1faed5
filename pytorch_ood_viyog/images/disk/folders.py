"""
What is in a folder of images, and what of it is left out.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["SUFFIXES", "Listing", "list_images"]

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".gif", ".avif"),
}
_SPLITS = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation")}


@dataclass(frozen=True)
class Listing:
    """Image files with labels."""

    files: list[Path]
    labels: list[int]
    #: why -> how many files were left out
    left_out: Counter[str] = field(default_factory=Counter)
    #: names of the classes in the order of labels, empty for a flat folder
    classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        classes = f"{len(self.classes)} classes" if self.classes else "no class folders"
        out = "".join(f"; left out: {n} {why}" for why, n in sorted(self.left_out.items()))
        return f"{len(self.files)} images, {classes}{out}"


def list_images(folder: Path, part: str = "", labelled: bool = True) -> Listing:
    """
    Sub-folders are the classes, in alphabetical order, or by number where all their names are
    numbers. A folder without sub-folders has no classes, and all labels are 0. Hidden files and
    folders, other files, and images beside class folders are left out, and counted.

    :param folder: folder of images
    :param part: ``"train"`` or ``"test"`` to take this sub-folder, where the folder is split
    :param labelled: whether sub-folders are classes; otherwise all images count, wherever they
        are, and have label 0
    :return: what is there
    :raises ValueError: if there are no images, or the folder is split and no part is named
    """
    folder = _split(folder, part) if labelled else folder
    left_out: Counter[str] = Counter()
    images = []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        inner = file.relative_to(folder).parts
        if any(name.startswith(".") or name == "__MACOSX" for name in inner):
            left_out["hidden"] += 1
        elif file.suffix.lower() not in SUFFIXES:
            left_out["of no image format"] += 1
        else:
            images.append(file)
    sorted_in = [file for file in images if file.parent != folder]
    if not sorted_in or not labelled:
        _check_any(folder, images)
        return Listing(images, [0] * len(images), left_out)
    if len(sorted_in) < len(images):
        left_out["beside class folders"] = len(images) - len(sorted_in)
    names = [file.relative_to(folder).parts[0] for file in sorted_in]
    classes = sorted(set(names))
    if all(name.isdecimal() for name in classes):
        classes.sort(key=int)
        return Listing(sorted_in, [int(name) for name in names], left_out, tuple(classes))
    number = {name: i for i, name in enumerate(classes)}
    return Listing(sorted_in, [number[name] for name in names], left_out, tuple(classes))


def _split(folder: Path, part: str) -> Path:
    """The part of a folder whose sub-folders are training and test images, not classes."""
    names = {d.name.lower(): d for d in folder.iterdir() if d.is_dir() and d.name[0] != "."}
    if not names or not set(names) <= {name for all_ in _SPLITS.values() for name in all_}:
        return folder
    for name in _SPLITS.get(part, ()):
        if name in names:
            return names[name]
    raise ValueError(
        f"{folder} is split into {sorted(names)}, which are no classes. Give one of them, such "
        f"as {names[min(names)]}."
    )


def _check_any(folder: Path, images: list[Path]) -> None:
    if not images:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}).")
