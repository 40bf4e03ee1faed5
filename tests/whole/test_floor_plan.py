"""Which room may import which: the plan of the house as a table, held against the code."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pytorch_ood_viyog

PACKAGE = Path(pytorch_ood_viyog.__file__).parent

#: room -> the rooms that it may import, all of them below it
MAY_IMPORT = {
    "layer": set(),
    "images": set(),
    "evaluation": set(),
    "testing": set(),
    "fitting": {"layer"},
    "residue": {"fitting", "images", "layer"},
    "detectors": {"residue", "fitting", "images", "layer"},
    "looks": {"detectors", "residue", "fitting", "images", "layer"},
    "pipeline": {"looks", "detectors", "fitting", "layer"},
    "triage": {
        *("pipeline", "looks", "detectors", "residue"),
        *("evaluation", "fitting", "images", "layer"),
    },
    "deploy": {
        *("triage", "pipeline", "looks", "detectors", "residue"),
        *("fitting", "layer"),
    },
    "benchmark": {
        *("triage", "pipeline", "looks", "detectors", "evaluation"),
        *("images", "layer"),
    },
}
#: entries that a reader takes in at a glance, the docstring of the room (__init__) not counted
MOST_ENTRIES = 12


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """:return: modules of this package that a file imports, and whether inside a function"""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(tree.body)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node not in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = [PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1]]
            above = folder[: len(folder) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += [(f"{module}.{alias.name}", node not in top) for alias in node.names]
    return [(name, inside) for name, inside in found if name.split(".")[0] == PACKAGE.name]


@cache
def file_of(name: str) -> Path:
    """:return: the file of a module, or of the module that a name is imported from"""
    parts = name.split(".")[1:]
    for count in (len(parts), len(parts) - 1):
        path = PACKAGE.joinpath(*parts[:count])
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    raise LookupError(name)


FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({file.parent for file in FILES})


def test_the_table_has_all_rooms():
    assert set(MAY_IMPORT) == {folder.name for folder in FOLDERS if folder.parent == PACKAGE}


def test_the_guide_shows_the_table():
    page = Path(__file__).parents[2] / "examples" / "docs" / "guide" / "how_it_works.md"
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", page.read_text("utf-8"), re.MULTILINE)
    assert {room: set(re.findall(r"`(\w+)`", below)) for room, below in rows} == MAY_IMPORT


def test_the_plan_is_below_and_above():
    list(TopologicalSorter(MAY_IMPORT).static_order())  # raises where rooms go in a circle


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_down(file):
    room, *rest = file.relative_to(PACKAGE).parts
    if not rest:
        return  # the face
    for name, _ in imports(file):
        other = file_of(name).relative_to(PACKAGE).parts[0]
        assert other in MAY_IMPORT[room] | {room}, f"{room} must not import {other}: {name}"


def test_no_module_imports_itself_by_way_of_others():
    graph = {file: {file_of(name) for name, _ in imports(file)} - {file} for file in FILES}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_nothing_of_the_package_is_imported_inside_a_function(file):
    assert not [name for name, inside in imports(file) if inside]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_floor_is_taken_in_at_a_glance(folder):
    entries = {entry.name for entry in folder.iterdir() if not entry.name.startswith("_")}
    assert len(entries - {"py.typed"}) <= MOST_ENTRIES, sorted(entries)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_room_says_what_lives_in_it(folder):
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    assert len((ast.get_docstring(tree) or "").split()) > 10
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    assert "__all__" in [name.id for node in assigned for name in node.targets]
