"""Options that the benchmarks share: folders of data, cache and results, photographs, OOD sets."""

import argparse
from pathlib import Path

__all__ = ["add_photographs", "benchmark_parser", "ood_paths"]


def benchmark_parser(description: str, *, needs_data: bool = True) -> argparse.ArgumentParser:
    """
    :param description: docstring of the script, of which the first line is shown
    :param needs_data: whether the data folder has to be given
    :return: parser with the folders of data, cache and results
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, required=needs_data, help="folder of the .npz files")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        help="folder of the tables and figures, default: results beside this script",
    )
    return parser


def add_photographs(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """
    :param parser: gets ``--images`` and ``--ood``
    :param required: whether ID images have to be given
    """
    images = "ID images at 224 pixels: folder, .npz file or FILE.npz:NAME"
    parser.add_argument("--images", required=required, help=images)
    ood = "their OOD images, likewise"
    parser.add_argument("--ood", nargs="+", default=[], metavar="NAME=PATH", help=ood)


def ood_paths(options: argparse.Namespace) -> dict[str, str]:
    """:return: OOD set -> where its images are, as given by ``--ood``"""
    return {name: path for name, _, path in (pair.partition("=") for pair in options.ood)}
