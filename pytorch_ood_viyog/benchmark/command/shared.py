"""
What the commands share: model, images, sizes, where results go.
"""

import argparse
from pathlib import Path
from typing import Any

from torch.nn import Module
from torch.utils.data import DataLoader, Dataset, StackDataset

from ...images.disk.files import has_labels, load_images, readable_images
from ...layer.manners import same_random_state
from ..data import EightBit
from ..model_names import add_model_arguments
from ..scoring import clean_accuracy

__all__ = ["Commands", "command_parser", "id_images", "own_labels"]

#: what ``ArgumentParser.add_subparsers`` returns
Commands = Any


def command_parser(
    commands: Commands, name: str, description: str, *, limit: int, batch_size: int
) -> argparse.ArgumentParser:
    """
    :param commands: gets the command
    :param name: name of the command
    :param description: its first line stands in the list of commands
    :param limit: default number of images to measure on
    :param batch_size: default batch size
    :return: parser of the command with the options that all have
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=description.splitlines()[0],
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    add = parser.add_argument
    add(
        "--id-train",
        type=Path,
        metavar="PATH",
        help="ID images to fit on; default: the training split of the .npz file that is measured "
        "on",
    )
    add(
        "--own-labels",
        action="store_true",
        help="the model's own answers are the labels: for folders that are not sorted by class",
    )
    add("--strict", action="store_true", help="stop at an image that cannot be read")
    add("--size", type=int, help="resize and crop to so many pixels; default: as they are")
    add("--limit", type=int, default=limit, help=f"images per test set, default: {limit}")
    fit = 5000 if name == "run" else 2000
    add("--fit-limit", type=int, default=fit, help=f"images to fit on, default: {fit}")
    add("--batch-size", type=int, default=batch_size, help=f"default: {batch_size}")
    add("--seed", type=int, default=0, help="default: 0")
    cache, out = (Path(folder) / _folder(name) for folder in (".cache", "output"))
    add("--cache", type=Path, default=cache, help=f"default: {cache}")
    out_help = f"where to, without suffix; default: {out}"
    add("--out", type=Path, default=out, metavar="PATH", help=out_help)
    add("--no-figures", action="store_true", help="tables only; figures need matplotlib")
    return parser


def _folder(name: str) -> str:
    return "benchmark" if name == "run" else name


def id_images(options: argparse.Namespace, measured: Path) -> tuple[Dataset[Any], Dataset[Any]]:
    """
    :param options: what was given on the command line
    :param measured: path of the images to measure on
    :return: these, and images to fit on
    :raises ValueError: if there are none to fit on, or no labels to attack by
    """
    if options.id_train is None and measured.is_dir():
        raise ValueError(f"--id-train is needed to fit detectors, as {measured} is a folder.")
    # one .npz file with a split, or two separate paths
    parts = ("train", "test") if options.id_train is None else ("", "")
    source = options.id_train or measured
    found = (
        load_images(measured, options.size, options.limit, parts[1]),
        load_images(source, options.size, options.fit_limit, parts[0]),
    )
    if options.attacks and not options.own_labels and not has_labels(found[0]):
        raise ValueError(
            f"{measured} has no labels, which attacks need: sort the images into folders of their "
            f"classes, list them with labels in a .txt file, or take the model's own answers with "
            f"--own-labels."
        )
    test, train = (readable_images(images, strict=options.strict) for images in found)
    return test, train


def own_labels(model: Module, name: str, images: Dataset[Any], batch_size: int) -> Dataset[Any]:
    """
    :param model: classifier of images in [0, 1]
    :param name: of the argument, for messages
    :param images: yields images, with or without labels
    :param batch_size: images per batch
    :return: the same with the model's answers as labels
    """
    loader = DataLoader(EightBit(name, images, labelled=False), batch_size)
    with same_random_state():  # a loader draws a seed
        found = clean_accuracy(model, loader, progress=True).predicted
    return StackDataset(images, found)  # type: ignore[arg-type]
