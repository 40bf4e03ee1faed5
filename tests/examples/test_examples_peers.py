"""
Detectors of other libraries: those that are installed, and the page on a stand-in.

The first test needs nothing of ours, so that it can run in the environment of a library.
"""

import functools
import sys
from importlib import import_module
from pathlib import Path

import digits
import pytest
import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
adapters = import_module("peers_adapters")


@functools.cache
def classifier():
    """With what the libraries ask for: pooling, batch norm, dropout."""
    (x, y), _ = digits.images()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
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


def crossed(x, y):
    """Moved down the slope until another class is answered, and no further."""
    moved = x.clone()
    for _ in range(100):
        moved = moved.detach().requires_grad_()
        logits = classifier()(moved)
        own = logits.gather(1, y[:, None])[:, 0] - logits.mean(1)
        still = (logits.argmax(1) == y).view(-1, 1, 1, 1)
        slope = torch.autograd.grad(own.sum(), moved)[0]
        moved = (moved - 0.01 * slope.sign() * still).clamp(0, 1)
    return moved.detach()


@functools.cache
def obvious():
    """Digits, each blended with one of another class, and each moved over a border."""
    _, (x, y) = digits.images()
    x, y = x[:60], y[:60]
    other = torch.stack([(y != label).nonzero()[i % 40, 0] for i, label in enumerate(y)])
    return {"plain": x, "blends": (x + x[other]) / 2, "crossed": crossed(x, y)}


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
    (x, y), _ = digits.images()
    wrong, failed = {}, {}
    for name, fit in detectors.items():
        model = torch.fx.symbolic_trace(classifier())
        try:
            found = adapters.scores(fit, model, x, y, obvious())
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        best = max(auroc(found["plain"], found[group]) for group in ("blends", "crossed"))
        if best < 0.6:
            wrong[name] = best
    assert not wrong
    assert len(failed) < len(detectors) / 2, failed
