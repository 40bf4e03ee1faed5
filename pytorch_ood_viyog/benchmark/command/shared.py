"""
What the commands share: model, images, sizes, where results go.
"""

import argparse
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ...images.disk.files import load_images, readable_images
from ..model_names import add_model_arguments

__all__ = ["Commands", "command_parser", "id_images"]

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
    :raises ValueError: if there are none to fit on
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
    test, train = (readable_images(images, strict=options.strict) for images in found)
    return test, train
