"""Which pages of results are of another state than this one, and how long new ones take.

.. code-block:: bash

    python examples/benchmarks/all.py                       # says it
    python examples/benchmarks/all.py --run --data DATA_FOLDER

A page is current if the code behind the script that made it is what it was: its last line says so
by a fingerprint. With ``--run``, every page that is not is made anew, one after the other; what a
script finished is kept in its cache, so that an interrupted run goes on where it stopped.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sources import FOLDER, fingerprint, sources
from tables import MADE, git, origin

RESULTS = FOLDER / "results"
#: OOD sets at 224 pixels, by their names in the file of photographs
OOD = ("mri", "aerial", "flowers")
_LINE = re.compile(
    re.escape(MADE) + r"(?P<day>\S+) by (?P<script>\S+), commit (?P<commit>\w+)\+?, "
    r"sources (?P<sources>\w+), in (?P<minutes>[\d.]+) minutes"
)

#: what a command has from the data folder
_OF_DATA = re.compile(r"\{(data|photos|originals|ood)\}")


@dataclass(frozen=True)
class Page:
    """
    :param files: names of the files that a command writes; the first says of which state they are
    :param command: script and its options; ``{data}`` is the data folder, ``{photos}`` 224-pixel
        photographs in it, ``{ood}`` their OOD sets, ``{originals}`` photographs as they were,
        ``{pythons}`` the option that says where peers are installed
    """

    files: tuple[str, ...]
    command: str

    @property
    def script(self) -> Path:
        """The file that is run."""
        return FOLDER / shlex.split(self.command)[0]

    def last(self) -> re.Match[str] | None:
        """:return: where the first of the files comes from, if it says so"""
        path = RESULTS / self.files[0]
        return _LINE.search(path.read_text(encoding="utf-8")) if path.is_file() else None

    def why_stale(self) -> str:
        """:return: what has changed since, empty if the page is current"""
        if missing := [name for name in self.files if not (RESULTS / name).is_file()]:
            return f"{', '.join(missing)} not there"
        last = self.last()
        if last is not None and last["sources"] == fingerprint(self.script):
            return ""
        commit = (
            last["commit"]
            if last
            else git("log", "-1", "--format=%h", "--", str(RESULTS / self.files[0]))
        )
        changed = [Path(name).name for name in changed_since(commit, self.script)]
        few = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if changed[3:] else "")
        unsigned = "" if last else "unsigned, "
        return f"{unsigned}of {commit or 'no commit'}, since then: {few or 'nothing committed'}"


# photo15-8x8 takes half an hour to train, verdicts at 224 pixels another one of attacks
_TRAINED = "gtsrb-3x3 photo15-3x3 photo15-7x7 cifar10-3x3"
_ONE = "--models efficientnet-lite0 --n 60"
_SMALL = ("cifar10-3x3", "gtsrb-3x3", "photo15-3x3")
_SYSTEMS = "--systems ViyogResidue SecondLook --n 24 --steps 20 --batch 8"
_LARGE = (
    "--attacks pgd pgd-soft quiet quiet-selective quiet-selective-soft smooth smooth-selective"
)
_LARGE += " selective orthogonal --checks 4"
PAGES = (
    Page(("separation.md",), f"separation.py --data {{data}} --configs {_TRAINED}"),
    Page(("pretrained.md",), f"pretrained.py --images {{photos}} --ood {{ood}} {_ONE}"),
    Page(("verdicts.md",), f"verdicts.py --data {{data}} --models {_TRAINED} --rules learnt"),
    Page(("verdict_curve.md",), "verdict_curve.py --data {data}"),
    Page(("foreign.md",), "foreign.py --data {data} --verdicts --seconds 4 --test 150"),
    Page(("peers.md",), "peers.py --data {data}{pythons}"),
    Page(("ways.md",), "ways.py --images {originals} --fit {photos} --attacked 48"),
    Page(("deployment.md",), "deployment.py --images 64"),
    Page(("speed_cpu.md",), "speed.py --clock cpu --threads 1 --rounds 9"),
    Page(("speed_before.md",), "speed_before.py"),
    Page(("speed_scale.md",), "speed_scale.py"),
    Page(("speed_benchmark.md",), "speed_benchmark.py"),
    Page(("device_cpu.md",), "device_check.py --device cpu --quick --out {results}/device_cpu.md"),
    Page(("timm.md",), "timm_table.py --out {results}/timm.md"),
    Page(("transformers.md",), "transformers_table.py --out {results}/transformers.md"),
    *(
        Page((f"evasion_{name}.md",), f"evasion.py --data {{data}} --configs {name} {_SYSTEMS}")
        for name in _SMALL
    ),
    Page(
        ("evasion_efficientnet-lite0.md",),
        f"evasion.py --data {{data}} --configs efficientnet-lite0 {_SYSTEMS} {_LARGE}",
    ),
)


def changed_since(commit: str, script: Path) -> list[str]:
    """:return: names of the sources of a script that differ from a commit, if git knows it"""
    files = [str(file) for file in sources(script)]
    return git("diff", "--name-only", commit, "--", *files).split() if commit else []


def listing(pages: tuple[Page, ...]) -> str:
    """:return: a line for each page: current, or why not, and how long it took"""
    lines, known, unknown = [], 0.0, 0
    for page in pages:
        why, last = page.why_stale(), page.last()
        taken = f"{last['minutes']} min" if last else "? min"
        lines.append(f"{page.files[0]:<32} {taken:>9}  {why or 'current'}")
        if why and last:
            known += float(last["minutes"])
        unknown += bool(why and not last)
    stale = sum(bool(page.why_stale()) for page in pages)
    more = f", and {unknown} of unknown length" if unknown else ""
    lines.append(
        f"{stale} of {len(pages)} stale: {known:.0f} minutes of CPU time at last, without what "
        f"caches held{more}."
    )
    return "\n".join(lines)


def make(page: Page, values: dict[str, str]) -> bool:
    """:return: whether the command of a page went through"""
    command = page.command.format(**values)
    print(f"+ {command}", flush=True)
    before = _children()
    arguments = [sys.executable, str(page.script), *shlex.split(command)[1:]]
    if subprocess.run(arguments).returncode:
        return False
    for name in page.files:  # of scripts that do not sign what they write
        path = RESULTS / name
        text = path.read_text(encoding="utf-8")
        if MADE not in text:
            line = origin(page.script, _children() - before)
            path.write_text(f"{text.rstrip()}\n\n{line}\n", encoding="utf-8")
    return True


def _children() -> float:
    """:return: CPU seconds of the programs that were run so far"""
    return sum(os.times()[2:4])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="make what is stale anew")
    parser.add_argument("--data", type=Path, help="folder of the .npz files")
    parser.add_argument("--pages", nargs="+", metavar="NAME", help="names of files; default: all")
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="LIBRARY=PYTHON", help="of peers.py"
    )
    options = parser.parse_args()
    known = [page.files[0] for page in PAGES]
    if unknown := set(options.pages or known) - set(known):
        parser.error(f"there is no page named {sorted(unknown)}; names are {', '.join(known)}")
    pages = tuple(page for page in PAGES if page.files[0] in (options.pages or known))
    print(listing(pages))
    if not options.run:
        return
    reading = [page.files[0] for page in pages if _OF_DATA.search(page.command)]
    if options.data is None and reading:
        parser.error(f"--run needs --data for {', '.join(reading)}")
    options.data = options.data or Path()
    photographs = f"{options.data / 'photos224'}.npz"
    values = {
        "data": shlex.quote(str(options.data)),
        "photos": shlex.quote(f"{photographs}:imagenet"),
        "originals": shlex.quote(str(options.data / "photos_original.tar")),
        "ood": " ".join(shlex.quote(f"{name}={photographs}:{name}") for name in OOD),
        "results": shlex.quote(str(RESULTS)),
        "pythons": f" --python {shlex.join(options.python)}" if options.python else "",
    }
    failed = [p.files[0] for p in pages if p.why_stale() and not make(p, values)]
    print(listing(pages))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
