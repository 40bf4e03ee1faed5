"""What the benchmark of hardened systems writes."""

import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest
import torch
from gates import GREY, Halves, LeftWatch, halves_images
from torch import nn

from pytorch_ood_viyog.benchmark import evasion
from pytorch_ood_viyog.benchmark.evasion.systems.gradients import WithGradients

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))


@pytest.fixture(scope="module")
def script():
    return import_module("hardening")


def test_shares_of_alarms_by_system(script):
    rows = [
        {"config": "one", "images": "ID", "n": 7, "white": 0.0512, "smooth": 0.04},
        {"config": "one", "images": "pgd8", "n": 5, "white": 1.0, "smooth": 0.6},
    ]
    text = script.blurred_report(pandas.DataFrame(rows))
    assert "| one | ID | 7 | 0.05 | 0.04 |" in text
    assert "| one | pgd8 | 5 | 1.00 | 0.60 |" in text


def test_a_line_for_each_system(script, tmp_path):
    found = evasion(
        {"watch": LeftWatch(Halves())},
        halves_images(3),
        calibration=torch.full((40, 1, 4, 4), GREY),
        budgets=(1 / 255, 4 / 255),
        attacks=["alternating"],
        steps=3,
        checks=0,
        progress=False,
    )
    rows = import_module("hardening_price").adaptive_rows("one", found, {"watch": 0.025})
    script.write(rows, tmp_path)
    text = (tmp_path / "hardening.md").read_text()
    assert text.startswith("# Hardening\n\nMade by `python ")
    alone, watch = (line.split(" | ") for line in text.splitlines() if line.startswith("| one"))
    assert alone[1] == "classifier alone"
    assert watch[1] == "watch"
    assert [float(value) for value in watch[2:4]] == pytest.approx(
        list(found.accepted("watch").values()), abs=0.005
    )
    assert watch[5] == "0.025"
    assert len(pandas.read_csv(tmp_path / "hardening.csv")) == 2  # systems


# -- systems that were tried ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def id_images():
    return torch.rand(110, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def parts(id_images):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(32, 4)).eval()
    return import_module("hardening_systems").Parts(model, id_images[:70], id_images[70:])


def test_every_system_scores_images_and_has_gradients(parts, id_images):
    systems = import_module("hardening_systems").SYSTEMS
    for name, made in systems.items():
        x = id_images[:4].clone().requires_grad_()
        with WithGradients():
            scores = made(parts).predict(x)
        assert scores.shape == (4,), name
        (gradient,) = torch.autograd.grad(scores.sum(), x)
        assert gradient.isfinite().all(), name
        assert (gradient != 0).any(), name


def test_a_view_that_answers_do_not_survive_gives_way_to_a_weaker_one(script):
    views = import_module("hardening_views")
    x = torch.linspace(0.2, 0.8, 8).view(8, 1, 1, 1).expand(8, 1, 4, 4)

    def answers(images):
        bright = 40 * (images.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([bright, -bright], dim=1)

    def negative(images):
        return 1 - images

    def darker(images):
        return images - 0.01

    kinds = {"light": [negative, darker], "never": [negative]}
    assert views.as_strong_as_survived(kinds, answers, x, 0.02) == [darker]
    with pytest.raises(ValueError, match="ID answers survive none of"):
        views.as_strong_as_survived({"never": [negative]}, answers, x, 0.02)


def test_the_drawn_view_differs_from_call_to_call_and_leaves_the_random_state(parts, id_images):
    module, views = import_module("hardening_detectors"), import_module("hardening_views")
    drawn = module.DrawnView(parts.model, views.SHIFTS).fit([(id_images, None)])
    state = torch.get_rng_state()
    scores = torch.stack([drawn(id_images[:4]) for _ in range(8)])
    assert (scores.std(dim=0) > 0).all()
    assert torch.equal(torch.get_rng_state(), state)
