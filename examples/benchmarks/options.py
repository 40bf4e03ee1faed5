"""Options that the benchmarks on the data folder's images share."""

import argparse
from pathlib import Path

__all__ = ["benchmark_parser"]


def benchmark_parser(description: str) -> argparse.ArgumentParser:
    """
    :param description: docstring of the script, of which the first line is shown
    :return: parser with the folders of data, cache and results
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npz files")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        help="folder of the tables and figures, default: results beside this script",
    )
    return parser
