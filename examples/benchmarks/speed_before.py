"""
CPU time of this build beside an older one, in one run.

    python examples/benchmarks/speed_before.py            # half an hour
    python examples/benchmarks/speed_before.py --quick    # to see that it runs

The older commit is checked out into a temporary worktree. Both builds do the same jobs in turn,
on one thread each, so that a noisy machine slows both alike; short jobs five times in a row, of
which the median counts, as the first finds cold caches. Times are medians over the rounds, ratios
medians of the ratios within a round. Weights are random, which changes no time. Each pair of
times is kept as soon as it is there: an interrupted run goes on where it stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import IO

import torch
from sources import fingerprint
from speed_before_jobs import PARTS
from tables import save_page

HERE = Path(__file__).resolve().parent
BEFORE = "a37a249"
#: kind of job -> the job of this build whose time is its unit
UNITS = {
    "predict_features": "predict",
    "predict ViyogIntent": "predict",
    "predict SecondLook": "forward pass",
    "export_onnx": "torch.onnx.export",
}
#: kind of job, of which models, most that it may cost: in its unit, or in times of before
TARGETS = (
    ("predict,", "", 1.02),
    ("fit all of a Triage", "", 0.25),
    ("predict_features", "", 1.0),
    ("predict ViyogIntent", "", 1.15),
    ("predict SecondLook", "32 px", 3.0),
    ("predict SecondLook", "224 px", 2.3),
    ("export_onnx", "", 2.0),
)


def started(package: Path, parts: list[str], quick: bool) -> subprocess.Popen[str]:
    """A worker that imports the package of a checkout."""
    return subprocess.Popen(
        [
            *(sys.executable, str(HERE / "speed_before_jobs.py")),
            *(["--quick"] * quick),
            *("--parts", *parts),
        ],
        env=os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def asked(process: subprocess.Popen[str], job: str) -> float:
    """CPU seconds of a job."""
    to, back = pipes(process)
    to.write(job + "\n")
    to.flush()
    return float(back.readline())


def pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None, "opened as a pipe"
    assert process.stdout is not None, "opened as a pipe"
    return process.stdin, process.stdout


def unit_of(name: str) -> str:
    """The job in whose time that of another one is told, empty for the same job before."""
    units = [unit for kind, unit in UNITS.items() if name.startswith(kind)]
    return f"{units[0]}, {name.partition(', ')[2]}" if units else ""


def cost(times: dict[str, list[tuple[float, float]]], name: str) -> float:
    """Time of this build in units of the job."""
    unit = unit_of(name)
    if not unit:
        return median(new / old for old, new in times[name])
    return median(mine[1] / its[1] for mine, its in zip(times[name], times[unit], strict=True))


def missed(times: dict[str, list[tuple[float, float]]]) -> str:
    """A line for each target: which jobs cost more than they may."""
    lines = ["Targets:", ""]
    for kind, where, most in TARGETS:
        jobs = [name for name in times if name.startswith(kind) and name.endswith(where)]
        over = [f"{name} ({cost(times, name):.2f})" for name in jobs if cost(times, name) > most]
        if jobs:
            unit = unit_of(jobs[0]).partition(",")[0] or "before"
            told = f"missed by {', '.join(over)}" if over else "reached"
            of = f"{kind.rstrip(',')}{where and ', '}{where}"
            lines.append(f"- {of}, at most {most} × {unit}: {told}.")
    return "\n".join(lines)


def table(times: dict[str, list[tuple[float, float]]], before: str, parts: list[str]) -> str:
    """Markdown; some jobs also in units of another one of this build."""
    now = subprocess.check_output(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"])
    lines = [
        "# Cost beside an older build",
        "",
        f"CPU time on one thread, {now.decode().strip()} beside {before}, torch "
        f"{torch.__version__.partition('+')[0]}; made by "
        f"`python examples/benchmarks/speed_before.py --parts {' '.join(map(repr, parts))}`.",
        "",
        "| job | before, ms | now, ms | ratio | now, in units of |",
        "|---|---|---|---|---|",
    ]
    for name in times:
        old, new = (median(pair[i] for pair in times[name]) for i in (0, 1))
        ratio = median(b / a for a, b in times[name])
        unit = unit_of(name).partition(",")[0]
        shown = f"{cost(times, name):.2f} × {unit}" if unit else ""
        lines.append(f"| {name} | {1e3 * old:.1f} | {1e3 * new:.1f} | {ratio:.2f} | {shown} |")
    return "\n".join([*lines, "", missed(times), ""])


def compared(before: str, parts: list[str], rounds: int, quick: bool, kept: Path) -> str:
    """Runs both builds in turn; times that were kept are not taken again."""
    git = ["git", "-C", str(HERE)]
    times: dict[str, list[tuple[float, float]]] = (
        json.loads(kept.read_text()) if kept.exists() else {}
    )
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        subprocess.run([*git, "worktree", "add", "-q", "--detach", str(tree), before], check=True)
        workers: list[subprocess.Popen[str]] = []
        try:
            workers = [started(package, parts, quick) for package in (tree, HERE.parents[1])]
            names, _ = (pipes(each)[1].readline().strip().split("|") for each in workers)
            # fits take long and vary little
            wanted = {name: 1 if name.startswith("fit") else rounds for name in names}
            for number in range(rounds):
                for name in names:
                    if len(times.setdefault(name, [])) < min(wanted[name], number + 1):
                        old, new = (asked(each, name) for each in workers)
                        times[name].append((old, new))
                        kept.write_text(json.dumps(times))
        finally:
            for each in workers:
                each.kill()
                each.wait()
            subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)
    # an earlier run may have been asked for more rounds, and cut off in one
    return table({name: times[name][: wanted[name]] for name in names}, before, parts)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all but fits")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--before", default=BEFORE, help=f"commit, default: {BEFORE}")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the page")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    options = parser.parse_args()
    parts = ["stems", "32 px"] if options.quick else options.parts
    rounds = 2 if options.quick else options.rounds
    kept = options.cache / "speed_before" / f"{options.before}-{fingerprint(__file__)}.json"
    if options.quick:
        kept = kept.with_stem(f"{kept.stem}-quick")
    kept.parent.mkdir(parents=True, exist_ok=True)
    text = compared(options.before, parts, rounds, options.quick, kept)

    save_page(options.out / "speed_before.md", text, __file__)
    print(text)


if __name__ == "__main__":
    main()
