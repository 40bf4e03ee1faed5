"""
What README, the guide and docstrings show runs, their links hold, and CI runs README's test
command.
"""

import functools
import re
import textwrap
from pathlib import Path

import pytest
import pytorch_ood.detector
import smooth_images
import torch
from networks import SmallNet, build
from onnx_answers import unoptimised
from torch.utils.data import TensorDataset

import pytorch_ood_viyog
from pytorch_ood_viyog.deploy import onnx_file
from pytorch_ood_viyog.deploy.triage_graph import TriageGraph

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "examples" / "docs"
#: pages that are read as they are, too
PAGES = [README, DOCS / "index.md", *sorted((DOCS / "guide").glob("*.*"))]
#: files that examples say they write
WRITTEN = {"measured.md": "output/mine.csv"}
MARKDOWN = [page for page in PAGES if page.suffix == ".md"]

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        pattern = rf"^```{language}\n(.*?)^```"
        return re.findall(pattern, text, flags=re.DOTALL | re.MULTILINE)
    return directives(text, language)


def directives(text, language):
    """Contents of the code blocks of a page, or a docstring, in reStructuredText."""
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if line.strip() == f".. code-block:: {language}"]
    return [indented_after(lines, start) for start in starts]


def indented_after(lines, start):
    indent = len(lines[start]) - len(lines[start].lstrip())
    body = []
    for line in lines[start + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        body.append(line)
    return textwrap.dedent("\n".join(body))


@pytest.fixture(scope="module")
def exported():
    """Files of triages that examples wrote, by when they ask again."""
    return {}


@pytest.fixture
def quick_exports(exported, monkeypatch):
    """
    Examples that export a triage fit the same one: the first file is there for all of them, and
    export_onnx checks of each that it fits.
    """
    write = onnx_file._write

    def written(graph, path, *rest):
        if not isinstance(graph, TriageGraph):
            return write(graph, path, *rest)
        if graph.rule.look not in exported:
            exported[graph.rule.look] = write(graph, path, *rest), path.read_bytes()
        size, content = exported[graph.rule.look]
        path.write_bytes(content)
        return size

    monkeypatch.setattr(onnx_file, "_write", written)
    with unoptimised():
        yield


@pytest.fixture
def namespace(images, loader, quick_exports):
    """What the examples take for granted."""
    model = build(SmallNet)
    with torch.no_grad():  # several answers, which attacks can change
        model.head.bias -= model(images).mean(dim=0)
    unit = images.sigmoid()  # the benchmark takes images in [0, 1]
    with torch.no_grad():
        labelled = TensorDataset(unit, model(unit).argmax(dim=1))
    with torch.no_grad():
        maps = model.stem.conv(images)
    calibration = torch.cat([images, images.flip(3)])  # as many as a triage needs
    return {
        "torch": torch,
        "model": model,
        "train_loader": loader,
        "x": images,
        "images": images,
        "maps": maps,
        "y": torch.arange(64) % 5,
        "ood_images": images[:32] / 2,
        "adv_images": images[32:] + 0.1 * torch.randn(32, 3, 10, 10),
        "labels": torch.tensor([1, -1]).repeat(32),
        "calibration_loader": [calibration],
        "test_loader": loader,
        "id_train": labelled,
        "id_test": labelled,
        "aerial": TensorDataset(unit[:20] / 2, torch.full((20,), -1)),
        "mri": TensorDataset(unit[20:40] / 3, torch.full((20,), -1)),
        "stream": images.split(32),
        "ood_loader": [images[:32] / 2],
        "adv_loader": [images[32:]],
    }


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_examples_run_from_top_to_bottom(page, namespace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page.name == "which_layer.md":  # which asserts what holds on images alone
        smooth = smooth_images.images(80, 0, 32)
        namespace |= {"train_loader": smooth[:64].split(16), "images": smooth[64:]}
    for example in blocks(page, "python"):
        exec(compile(example, page.name, "exec"), namespace)
    assert (tmp_path / WRITTEN.get(page.name, "")).exists()


def test_the_face_is_what_readme_names_in_its_order():
    words = re.findall(r"\w+", README.read_text(encoding="utf-8"))
    assert list(pytorch_ood_viyog.__all__) == sorted(pytorch_ood_viyog.__all__, key=words.index)


def docstring_examples():
    for name in pytorch_ood_viyog.__all__:
        docstring = getattr(pytorch_ood_viyog, name).__doc__ or ""
        for number, example in enumerate(directives(docstring, "python")):
            yield pytest.param(example, id=f"{name}-{number}")


@pytest.mark.parametrize("example", list(docstring_examples()))
def test_docstring_examples_run(namespace, capsys, example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = {name: getattr(pytorch_ood_viyog, name) for name in pytorch_ood_viyog.__all__}
    detectors = {k: v for k, v in vars(pytorch_ood.detector).items() if isinstance(v, type)}
    namespace |= {k: v for k, v in {**detectors, **exported}.items() if k in example}
    model, train_loader = namespace["model"], namespace["train_loader"]
    namespace["detector"] = pytorch_ood_viyog.Viyog(model).fit(train_loader)
    if "(residue" in example:
        namespace["residue"] = pytorch_ood_viyog.ViyogResidue(model).fit(train_loader)
    if "export_onnx(model, triage" in example:  # as the guide does: one pass, half the graph
        namespace["Triage"] = functools.partial(pytorch_ood_viyog.Triage, look="never")
    if "# in [0, 1]" in example:
        namespace["images"] = namespace["images"].sigmoid()
    assert example.strip()
    exec(compile(example, "docstring", "exec"), namespace)


def commands():
    return [line for block in blocks(README, "bash") for line in block.splitlines()]


def test_commands():
    quickstart, tests = commands()[:2]
    assert quickstart.startswith("python3 -m venv .venv && ")
    assert quickstart.endswith(" examples/detectors/quickstart.py")
    assert (ROOT / quickstart.split()[-1]).exists()
    assert tests.endswith(" .venv/bin/pytest")


def test_ci_runs_the_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '(.*)' README\.md", script).group(1)
    found = [line for line in README.read_text().splitlines() if re.search(pattern, line)]
    assert found == commands()[1:2]
    assert '-c "$test_command"' in script
    for check in ("ruff check", "ruff format --check", "mypy", "quickstart.py --quick"):
        assert check in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


@pages
def test_extras_exist(page):
    declared = (ROOT / "pyproject.toml").read_text()
    for extras in re.findall(r"install '\.\[([\w,]+)\]'", page.read_text(encoding="utf-8")):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", declared, flags=re.MULTILINE), extra


@pages
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    commands = re.findall(r"^(?:python|torchrun) .*?(examples/\S+\.py)", text, flags=re.MULTILINE)
    for path in [*commands, *re.findall(r"`((?:examples|tests)/[\w/.]+)`", text)]:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_links_point_to_files_and_headings(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for target in targets:
        if re.match(r"https?://", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT), target
        assert file.is_file(), target
        if heading:
            assert heading in headings(file), target


def headings(page):
    """Anchors of a Markdown page, as forges and MyST make them of its headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles]
