"""The documentation builds without a warning, examples not executed, and leaves no export out."""

import importlib
import io
import pkgutil
import shutil
import sys
from pathlib import Path

import pytest

import pytorch_ood_viyog

ROOT = Path(__file__).parents[2]
FACE = pytorch_ood_viyog.__name__
ROOMS = [
    FACE,
    *(
        module.name
        for module in pkgutil.walk_packages(pytorch_ood_viyog.__path__, f"{FACE}.")
        if module.ispkg
    ),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """
    Sphinx after a build that reads and resolves everything and writes no pages, and its warnings.
    In this process, which has the imports behind it; in a copy, as the gallery writes its pages
    beside the others.
    """
    application = pytest.importorskip("sphinx.application")
    for extension in ("furo", "myst_parser", "sphinx_gallery"):
        pytest.importorskip(extension)
    root = tmp_path_factory.mktemp("docs")
    source = root / "examples" / "docs"
    shutil.copytree(
        ROOT / "examples" / "docs", source, ignore=shutil.ignore_patterns("gallery", "output")
    )
    for linked in (
        FACE,
        "README.md",
        "examples/detectors",
        "examples/benchmarks",
        "examples/contract",
        "examples/deployment",
        "examples/scale",
    ):
        (root / linked).symlink_to(ROOT / linked)
    warnings = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path[:])
        app = application.Sphinx(
            source,
            source,
            root / "pages",
            root / "doctrees",
            "dummy",
            confoverrides={"plot_gallery": "False"},
            status=None,
            warning=warnings,
        )
        app.build()
    return app, warnings.getvalue()


def test_every_module_has_its_line_in_the_reference():
    """Also where Sphinx is not installed."""
    modules = {m.name for m in pkgutil.walk_packages(pytorch_ood_viyog.__path__, f"{FACE}.")}
    pages = (ROOT / "examples" / "docs" / "reference").glob("*.rst")
    lines = [line for page in pages for line in page.read_text("utf-8").splitlines()]
    told = [line.split()[-1] for line in lines if line.startswith(".. automodule::")]
    assert sorted(told) == sorted(modules - {f"{FACE}.benchmark.__main__"})


def test_documentation_builds_without_a_warning(built):
    _, warnings = built
    assert warnings == ""


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_exports_is_in_the_reference(built, room):
    app, _ = built
    documented = [name for name in app.env.domains["py"].objects if name.startswith(f"{room}.")]
    last_parts = {name.rpartition(".")[2] for name in documented}
    assert set(importlib.import_module(room).__all__) <= last_parts


def test_scripts_in_cells_are_in_the_gallery(built):
    app, _ = built
    scripts = [
        script
        for script in (ROOT / "examples" / "detectors").glob("*.py")
        if "\n# %%\n" in script.read_text(encoding="utf-8")
    ]
    assert len(scripts) >= 3
    pages = {name for name in app.env.all_docs if name.startswith("gallery/")}
    assert pages == {"gallery/index", *(f"gallery/{script.stem}" for script in scripts)}
