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
    commands: Commands,
    name: str,
    description: str,
    *,
    limit: int,
    batch_size: int | None = None,
) -> argparse.ArgumentParser:
    """
    :param commands: gets the command
    :param name: name of the command
    :param description: its first line stands in the list of commands
    :param limit: default number of images to measure on
    :param batch_size: default batch size of a command that attacks images; ``None`` for one that
        reads no labels, keeps nothing and draws nothing
    :return: parser of the command with the options that all such commands have
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=description.splitlines()[0],
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    folder, fit = ("benchmark", 5000) if name == "run" else (name, 2000)
    cache, out = Path(".cache") / folder, Path("output") / folder
    train = "ID images to fit on; default: the training split of the .npz file that is measured on"
    out_help = f"where to, without suffix; default: {out}"
    add = parser.add_argument
    add("--id-train", type=Path, metavar="PATH", help=train)
    add("--strict", action="store_true", help="stop at an image that cannot be read")
    add("--size", type=int, help="resize and crop to so many pixels; default: as they are")
    add("--limit", type=int, default=limit, help=f"images per test set, default: {limit}")
    add("--fit-limit", type=int, default=fit, help=f"images to fit on, default: {fit}")
    add("--seed", type=int, default=0, help="default: 0")
    add("--out", type=Path, default=out, metavar="PATH", help=out_help)
    if batch_size is not None:
        own = "the model's own answers are the labels: for folders that are not sorted by class"
        add("--own-labels", action="store_true", help=own)
        add("--batch-size", type=int, default=batch_size, help=f"default: {batch_size}")
        add("--cache", type=Path, default=cache, help=f"default: {cache}")
        add("--no-figures", action="store_true", help="tables only; figures need matplotlib")
    return parser


def id_images(
    options: argparse.Namespace, measured: Path, *, labelled: bool = True
) -> tuple[Dataset[Any], Dataset[Any]]:
    """
    :param options: what was given on the command line
    :param measured: path of the images to measure on
    :param labelled: whether these need labels, unless the model's own are taken
    :return: these, and images to fit on
    :raises ValueError: if there are none to fit on, or no labels to attack by
    """
    if options.id_train is None and measured.is_dir():
        raise ValueError(f"--id-train is needed to fit detectors, as {measured} is a folder.")
    # one .npz file with a split, or two separate paths
    parts = ("train", "test") if options.id_train is None else ("", "")
    test = load_images(measured, options.size, options.limit, parts[1])
    train = load_images(options.id_train or measured, options.size, options.fit_limit, parts[0])
    if labelled and not options.own_labels and not has_labels(test):
        raise ValueError(
            f"{measured} has no labels, which attacks need: sort the images into folders of their "
            f"classes, list them with labels in a .txt file, or take the model's own answers with "
            f"--own-labels."
        )
    strict = options.strict
    return readable_images(test, strict=strict), readable_images(train, strict=strict)


def own_labels(model: Module, name: str, images: Dataset[Any], batch_size: int) -> Dataset[Any]:
    """
    :param model: classifier of images in [0, 1]
    :param name: of the argument, for messages
    :param images: yields images, with or without labels
    :param batch_size: images per batch
    :return: the same with the model's answers as labels
    """
    loader = DataLoader(EightBit(name, images, label=0), batch_size)
    with same_random_state():  # a loader draws a seed
        found = clean_accuracy(model, loader, progress=True).predicted
    return StackDataset(images, found)  # type: ignore[arg-type]
