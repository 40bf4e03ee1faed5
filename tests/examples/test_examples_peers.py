"""
Detectors of other libraries: those that are installed, and the page on a stand-in.

The first test needs nothing of ours, so that it can run in the environment of a library.
"""

import functools
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import digits
import numpy as np
import pytest
import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
adapters = import_module("peers_adapters")


@functools.cache
def images():
    """Digits of 24 × 24 pixels without fine detail, to fit on and to judge."""
    (x, y), (held, labels) = digits.images()

    def larger(small):
        return nn.functional.interpolate(small, size=24, mode="bicubic").clamp(0, 1)

    return larger(x), y, larger(held[:60]), labels[:60]


@functools.cache
def classifier():
    """With what the libraries ask for: pooling, batch norm, dropout."""
    x, y, _, _ = images()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32, 10),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(20):
            for part in torch.randperm(len(y)).split(100):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[part]), y[part]).backward()
                optimizer.step()
    return model.eval()


def attacked(x, y, steps, until_wrong):
    """Up the slope of the loss by 0.02 a step, all pixels alike."""
    moved = x.clone()
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        logits = classifier()(moved)
        slope = torch.autograd.grad(nn.functional.cross_entropy(logits, y), moved)[0]
        still = (logits.argmax(1) == y).view(-1, 1, 1, 1) if until_wrong else 1
        moved = (moved + 0.02 * slope.sign() * still).clamp(0, 1)
    return moved.detach()


@functools.cache
def obvious():
    """Digits, each blended with one of another class, and attacked to and over the border."""
    _, _, x, y = images()
    other = torch.stack([(y != label).nonzero()[i % 40, 0] for i, label in enumerate(y)])
    return {
        "plain": x,
        "blends": (x + x[other]) / 2,
        "crossed": attacked(x, y, 30, until_wrong=True),
        "pushed": attacked(x, y, 8, until_wrong=False),
    }


def auroc(low, high):
    """Ties count half."""
    return ((high > low[:, None]).mean() + (high >= low[:, None]).mean()) / 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", adapters.LIBRARIES)
def test_scores_are_larger_for_what_is_unlike_the_fit(library):
    try:
        detectors = adapters.LIBRARIES[library]()
    except ImportError as error:
        pytest.skip(str(error))
    x, y, _, _ = images()
    wrong, failed = {}, {}
    for name, fit in detectors.items():
        model = torch.fx.symbolic_trace(classifier())
        try:
            found = adapters.scores(fit, model, x, y, obvious())
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        best = max(auroc(found["plain"], found[group]) for group in list(obvious())[1:])
        if best < 0.6:
            wrong[name] = best
    assert not wrong
    assert len(failed) < len(detectors) / 2, failed


class TestPage:
    """On a library that is none, and one that is not installed."""

    @pytest.fixture
    def peers(self):
        pytest.importorskip("viyog")
        return import_module("peers")

    def test_scores_come_as_files_and_failures_as_text(self, tmp_path, monkeypatch):
        x, y, held, _ = images()

        def brightness(model, x, y):
            return lambda batch: batch.mean((1, 2, 3))

        def broken(model, x, y):
            raise RuntimeError("of this | kind")

        detectors = {"brightness": brightness, "broken": broken, "nan": lambda m, x, y: torch.log}
        monkeypatch.setitem(adapters.LIBRARIES, "torch", lambda: detectors)
        torch.save(torch.fx.symbolic_trace(classifier()), tmp_path / "model.pt")
        pixels = {n: (i * 255).round().byte().numpy() for n, i in (("fit", x), ("id", held))}
        np.savez(tmp_path / "images.npz", labels=y.numpy(), **pixels)
        adapters.run("torch", tmp_path)
        with np.load(tmp_path / "torch" / "brightness.npz") as found:
            expected = pixels["id"].astype(float).mean((1, 2, 3)) / 255
            np.testing.assert_allclose(found["id"], expected, rtol=1e-5)
        assert (tmp_path / "torch" / "broken.txt").read_text() == "RuntimeError: of this | kind"
        assert "scores for" in (tmp_path / "torch" / "nan.txt").read_text()
        # only what failed is tried again
        detectors["brightness"] = broken
        detectors["broken"] = brightness
        adapters.run("torch", tmp_path)
        assert not list((tmp_path / "torch").glob("br*.txt"))

    def test_what_beats_ours_is_said_first(self, peers):
        def scored(library, name, shift):
            groups = ["id", "ood/a", "ood/b", "plain", *peers._OBVIOUS_SETS]
            groups += [f"adv/{attack}" for attack in peers._ATTACKS]
            values = {g: torch.arange(50.0) + shift.get(g.split("/")[0], 0) for g in groups}
            return peers.row(library, name, values)

        rows = [
            scored(peers.OURS, "ViyogResidue", {"adv": 10, "pushed": 50}),
            scored("scio", "Odds", {"adv": 60, "blends": 60}),
            scored("oodeel", "Gram", {"ood": 60, "plain": 100}),
            peers.Row("oodeel", "DKNN", {}, "ImportError: no faiss"),
        ]
        assert rows[1].values["T3 cw"] == (1.0, 0.0)
        page = peers.page(rows, {"scio": "scio 1"}, "accuracy 0.9")
        first = page.index("T3 pgd8: ViyogResidue 0.680, beaten by scio Odds 1.000.")
        assert first < page.index("| Odds | scio |") < page.index("| ViyogResidue | viyog |")
        assert "T1: ViyogResidue 0.500, beaten by oodeel Gram 1.000." in page
        assert "Below 0.5 on all: oodeel Gram." in page
        assert "- oodeel, DKNN: ImportError: no faiss" in page

    def test_a_library_that_is_not_installed_says_so(self, peers, tmp_path, monkeypatch):
        x, y, _, _ = images()
        # each has a process of its own, which takes seconds to import
        monkeypatch.setattr(adapters, "LIBRARIES", {"scio": adapters.LIBRARIES["scio"]})
        torch.save(torch.fx.symbolic_trace(classifier()), tmp_path / "model.pt")
        np.savez(tmp_path / "images.npz", labels=y.numpy(), fit=(x * 255).byte().numpy())
        found = peers.run_peers(tmp_path, {})
        if find_spec("scio") is None:
            assert found["scio"].endswith(str(PackageNotFoundError("scio")))
