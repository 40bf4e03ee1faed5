"""
How large the house is, by ``python tests/helpers/counts.py``: lines, files, public detectors, and
the deepest folder.
"""

import ast
from pathlib import Path

from pytorch_ood.api import Detector

import pytorch_ood_viyog

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytorch_ood_viyog"


def lines(folder: Path) -> int:
    """:return: lines of the Python files of a folder"""
    return sum(map(length, folder.rglob("*.py")))


def length(file: Path) -> int:
    """:return: lines of a file"""
    return len(file.read_text(encoding="utf-8").splitlines())


def code_lines(folder: Path) -> int:
    """:return: lines that hold code: no docstrings, comments or blank lines"""
    found = 0
    for file in folder.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        told = {
            number
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        kept = enumerate(map(str.strip, text.splitlines()), start=1)
        found += sum(bool(t) and t[0] != "#" and number not in told for number, t in kept)
    return found


def deepest() -> tuple[int, list[str]]:
    """:return: how many folders below the package the deepest ones are, and these"""
    folders = {file.parent.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")}
    depth = max(len(folder.parts) for folder in folders)
    return depth, sorted(folder.as_posix() for folder in folders if len(folder.parts) == depth)


def public_detectors() -> list[str]:
    """:return: detectors of pytorch-ood that the package's face exports"""
    found = {name: getattr(pytorch_ood_viyog, name) for name in pytorch_ood_viyog.__all__}
    return [
        n for n, each in found.items() if isinstance(each, type) and issubclass(each, Detector)
    ]


def main() -> None:
    """Prints the counts."""
    for folder in (PACKAGE, ROOT / "tests", ROOT / "examples"):
        files = len([*folder.rglob("*.py")])
        name, code = "package" if folder == PACKAGE else folder.name, code_lines(folder)
        print(f"{name:<9} {lines(folder):>6} lines, {code:>6} of code, {files:>4} files")
    longest = max(PACKAGE.rglob("*.py"), key=length)
    print(f"longest file: {longest.relative_to(ROOT)}, {length(longest)} lines")
    depth, where = deepest()
    print(f"deepest folders: {depth} below the package ({len(where)}: {', '.join(where)})")
    detectors = public_detectors()
    print(f"public detectors: {len(detectors)} ({', '.join(detectors)})")


if __name__ == "__main__":
    main()
