"""What README and docstrings show runs, and CI runs README's test command."""

import re
import textwrap
from pathlib import Path

import pytest
import torch
from networks import SmallNet, build
from torch.utils.data import TensorDataset

import pytorch_ood_viyog

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def namespace(images, loader):
    """What the examples take for granted."""
    model = build(SmallNet)
    unit = images.sigmoid()  # the benchmark takes images in [0, 1]
    with torch.no_grad():
        labelled = TensorDataset(unit, model(unit).argmax(dim=1))
    with torch.no_grad():
        maps = model.stem.conv(images)
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
        "calibration_loader": loader,
        "id_train": labelled,
        "id_test": labelled,
        "aerial": TensorDataset(unit[:20] / 2, torch.full((20,), -1)),
        "mri": TensorDataset(unit[20:40] / 3, torch.full((20,), -1)),
        "ood_loader": [images[:32] / 2],
        "adv_loader": [images[32:]],
    }


def test_readme_examples_run_from_top_to_bottom(namespace, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = blocks("python")
    assert len(examples) >= 3
    for example in examples:
        exec(compile(example, "README.md", "exec"), namespace)
    assert (tmp_path / "output" / "mine.csv").exists()
    assert "'AUROC'" in capsys.readouterr().out


def docstring_examples():
    for name in pytorch_ood_viyog.__all__:
        lines = (getattr(pytorch_ood_viyog, name).__doc__ or "").splitlines()
        for start, line in enumerate(lines):
            if line.strip() == ".. code-block:: python":
                indent = len(line) - len(line.lstrip())
                body = []
                for following in lines[start + 1 :]:
                    if following.strip() and len(following) - len(following.lstrip()) <= indent:
                        break
                    body.append(following)
                yield pytest.param(textwrap.dedent("\n".join(body)), id=f"{name}-{start}")


@pytest.mark.parametrize("example", list(docstring_examples()))
def test_docstring_examples_run(namespace, capsys, example):
    namespace |= {
        name: getattr(pytorch_ood_viyog, name)
        for name in pytorch_ood_viyog.__all__
        if name in example
    }
    namespace["detector"] = pytorch_ood_viyog.Viyog(namespace["model"]).fit(
        namespace["train_loader"]
    )
    assert example.strip()
    exec(compile(example, "docstring", "exec"), namespace)


def commands():
    return [line for block in blocks("bash") for line in block.splitlines()]


def test_commands():
    quickstart, tests = commands()[:2]
    assert quickstart.startswith("python3 -m venv .venv && ")
    assert quickstart.endswith(" examples/detectors/quickstart.py")
    assert (ROOT / quickstart.split()[-1]).exists()
    assert tests.endswith(" .venv/bin/pytest")


def test_ci_runs_the_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '(.*)' README\.md", script).group(1)
    found = [line for line in README.splitlines() if re.search(pattern, line)]
    assert found == commands()[1:2]
    assert '-c "$test_command"' in script
    for check in ("ruff check", "ruff format --check", "mypy", "quickstart.py --quick"):
        assert check in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_extras_exist():
    declared = (ROOT / "pyproject.toml").read_text()
    for extra in re.findall(r"install '\.\[(\w+)\]'", README):
        assert re.search(rf"^{extra} = \[", declared, flags=re.MULTILINE)


def test_files_that_readme_names_exist():
    for path in re.findall(r"`((?:examples|tests)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path
