"""
The benchmark from the command line: ``python -m pytorch_ood_viyog.benchmark --help``.
"""

import argparse
import sys
from collections.abc import Sequence

from .command import add_evasion, add_run, add_ways

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """
    :param arguments: command line, without the name of the program; default is the real one.
        Without a command it is that of ``run``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0].startswith("-") and given[0] not in ("-h", "--help"):
        given = ["run", *given]
    parser = argparse.ArgumentParser(
        prog="python -m pytorch_ood_viyog.benchmark",
        description="Detectors on a classifier of your own. Each command has its own --help.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_command in (add_run, add_evasion, add_ways):
        add_command(commands)
    options = parser.parse_args(given)
    try:
        options.work(options)
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
