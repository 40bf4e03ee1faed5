"""What the pages of results share: tables, rows that stay, and where a page comes from."""

import os
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import pandas
import torch
from pandas import DataFrame
from sources import fingerprint

from pytorch_ood_viyog.evaluation.page import machine, versions

__all__ = ["MADE", "git", "keep", "markdown", "origin", "save_page"]

#: how the line begins that says where a page comes from
MADE = "*Made on "


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """:return: a Markdown table; the first line is its head"""
    head, *body = lines
    ruled = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in ruled)


def keep(rows: Sequence[dict[str, object]], path: Path, by: str = "model") -> DataFrame:
    """
    :param rows: of what was run now
    :param path: table that may hold rows of others, which stay in it
    :param by: the column that says of what a row is
    :return: the table as it is on disk now
    """
    table = DataFrame(rows)
    if path.exists():
        before = pandas.read_csv(path)
        table = pandas.concat([before[~before[by].isin(table[by])], table])
    table = table.sort_values(by, kind="stable", ignore_index=True)
    table.to_csv(path, index=False, float_format="%.5g")
    return table


def save_page(path: Path, text: str, script: str | Path) -> Path:
    """
    :param path: file to write; folders are made
    :param text: Markdown
    :param script: file of this folder that made it, such as ``__file__``
    :return: the file, which ends with :func:`origin`
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text.rstrip()}\n\n{origin(script)}\n", encoding="utf-8")
    return path


def origin(script: str | Path, seconds: float | None = None) -> str:
    """
    :param script: file of this folder that made a page
    :param seconds: CPU time; default is what this process and those that it started took so far,
        without what was stored
    :return: a line: date, commit, sources, CPU time, machine kind, versions
    """
    taken = sum(os.times()[:4]) if seconds is None else seconds
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return (
        f"{MADE}{day} by {Path(script).name}, commit {_commit()}, sources {fingerprint(script)}, "
        f"in {taken / 60:.1f} minutes of CPU time, on {_kind()}; {found}.*"
    )


def _kind() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {machine()}"
    threads, vectors = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    return f"{machine()}, {vectors}, {threads} thread{'s' if threads > 1 else ''}"


def _commit() -> str:
    """The commit of the checkout; ``+`` where files but pages of results differ from it."""
    changed = git("diff", "--name-only", "HEAD", "--", ":/", ":(exclude)results")
    return f"{git('rev-parse', '--short=10', 'HEAD') or 'unknown'}{'+' if changed else ''}"


def git(*arguments: str) -> str:
    """:return: what git prints of the checkout, nothing where it fails"""
    folder = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
