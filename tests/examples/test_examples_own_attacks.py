"""Attacks of the benchmarks' own: budgets kept, classes changed, the rest left alone."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from networks import close_classes
from torch import nn

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
own = import_module("own_attacks")

ATTACKS = [
    own.SmoothPGD(8 / 255, sigma=1.0, steps=5),
    own.TrainedPatch(side=0.25, steps=5),
    own.ColourShift(),
]


@pytest.fixture
def case():
    return close_classes()


@pytest.fixture
def model(case):
    return case[0]


@pytest.fixture
def data(case):
    return case[1:]


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_images_stay_images_and_some_change_their_class(attack, model, data):
    x, y = data
    before = x.clone()
    attacked = attack(model, x, y)
    assert torch.equal(x, before)
    assert attacked.shape == x.shape
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert not attacked.requires_grad
    assert (model(attacked).argmax(dim=1) != y).any()


def test_smooth_perturbation_has_less_fine_detail_for_the_same_budget(model, data):
    x, y = data
    middle = 0.25 + x / 2  # nothing is clipped

    def roughness(sigma):
        change = own.SmoothPGD(8 / 255, sigma, steps=5)(model, middle, y) - middle
        assert change.abs().amax(dim=(1, 2, 3)).min() == pytest.approx(8 / 255, rel=1e-3)
        assert change.abs().max() <= 8 / 255 + 1e-6
        return change.diff(dim=3).square().mean() / change.square().mean()

    assert roughness(2.5) < roughness(1.0) < roughness(0.3)


def test_patch_changes_one_square_alone(model, data):
    x, y = data
    changed = (own.TrainedPatch(side=0.25, steps=3)(model, x, y) != x).any(dim=1)
    for one in changed:
        rows, columns = one.any(dim=1).nonzero(), one.any(dim=0).nonzero()
        assert rows.max() - rows.min() == columns.max() - columns.min() == 4
        assert one.sum() == 25


class Redness(nn.Module):
    """Class 1 where red is stronger than blue on average."""

    def forward(self, x):
        score = (x[:, 0] - x[:, 2]).mean(dim=(1, 2))
        return torch.stack([-score, score], dim=1)


def test_colour_takes_the_smallest_hue_that_changes_the_class_or_nothing():
    x = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0.5, 0.5, 0.5]]).view(3, 3, 1, 1)
    x = x.expand(-1, -1, 4, 4)
    y = Redness()(x).argmax(dim=1)
    shifted = own.ColourShift()(Redness(), x, y)
    assert (Redness()(shifted[:2]).argmax(dim=1) != y[:2]).all()
    assert torch.equal(shifted[2], x[2])  # grey has no hue
    assert shifted[0, 0, 0, 0] <= shifted[0, 2, 0, 0]  # red has gone round to blue
