"""Attacks of our own: budgets kept, classes changed, what is theirs to leave alone is left."""

import math

import pytest
import torch
from torch import nn

from pytorch_ood_viyog.benchmark.attacks import (
    ColourShift,
    ConfinedPGD,
    SmoothPGD,
    Square,
    TargetedPGD,
    TrainedPatch,
    craft,
    named_attack,
)
from pytorch_ood_viyog.benchmark.attacks.gradient import gaussian_blur

ATTACKS = [
    SmoothPGD(8 / 255, sigma=1.0, steps=5),
    TargetedPGD(8 / 255, steps=5),
    TrainedPatch(steps=5),
    Square(8 / 255, queries=30),
    ColourShift(),
    ConfinedPGD(8 / 255, steps=5),
]
BOUNDED = [ATTACKS[0], ATTACKS[1], ATTACKS[3], ATTACKS[5]]
names = pytest.mark.parametrize


@pytest.fixture
def model():
    """Classes that lie close together, so that small changes matter."""
    layers = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(256, 6)).eval()


@pytest.fixture
def data(model):
    x = torch.randint(0, 256, (8, 3, 20, 20)) / 255
    with torch.no_grad():
        model[-1].bias -= model(x).mean(0)
        return x, model(x).argmax(dim=1)


@names("attack", ATTACKS, ids=repr)
def test_images_stay_images_and_some_change_their_class(attack, model, data):
    x, y = data
    before = x.clone()
    attacked = attack(model, x, y)
    assert torch.equal(x, before)
    assert attacked.shape == x.shape
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert not attacked.requires_grad
    assert (model(attacked).argmax(dim=1) != y).any()


@names("attack", BOUNDED, ids=repr)
def test_no_pixel_moves_further_than_the_budget(attack, model, data):
    x, y = data
    assert (attack(model, x, y) - x).abs().max() <= 8 / 255 + 1e-6


@names("attack", ATTACKS, ids=repr)
def test_settings_are_told_and_results_repeat(attack, model, data, tmp_path):
    """``craft`` keeps what it stores under the attack's ``repr``, and seeds all randomness."""
    x, y = data
    one, other = (craft(model, attack, x, y, cache=tmp_path, progress=False) for _ in range(2))
    again = craft(model, attack, x, y, progress=False)
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.x, again.x)


def test_blur_keeps_the_mean_and_the_variance_that_it_adds():
    """An impulse becomes the Gaussian: sum 1, standard deviation sigma along each axis."""
    x = torch.zeros(1, 2, 41, 41, dtype=torch.float64)
    x[0, 1, 20, 20] = 1
    blurred = gaussian_blur(x, 2.0)[0]
    assert blurred[0].abs().max() == 0
    offsets = torch.arange(41) - 20.0
    for profile in (blurred[1].sum(0), blurred[1].sum(1)):
        assert profile.sum() == pytest.approx(1)
        assert math.sqrt((profile * offsets**2).sum()) == pytest.approx(2.0, rel=0.02)


def test_smooth_perturbation_has_less_fine_detail_for_the_same_budget(model, data):
    x, y = data
    middle = 0.25 + x / 2  # nothing is clipped

    def roughness(sigma):
        change = SmoothPGD(8 / 255, sigma, steps=5)(model, middle, y) - middle
        assert change.abs().amax(dim=(1, 2, 3)).min() == pytest.approx(8 / 255, rel=1e-3)
        return change.diff(dim=3).square().mean() / change.square().mean()

    assert roughness(2.5) < roughness(1.0) < roughness(0.3)


def test_targeted_attack_aims_at_one_class(model, data):
    """With a large budget every image arrives at its target, which the seed decides."""
    x, y = data
    torch.manual_seed(3)
    found = model(TargetedPGD(0.3, steps=40)(model, x, y)).argmax(dim=1)
    torch.manual_seed(3)
    assert torch.equal(found, (y + torch.randint(1, 6, y.shape)) % 6)


def test_patch_changes_one_square_alone(model, data):
    x, y = data
    changed = (TrainedPatch(side=0.25, steps=3)(model, x, y) != x).any(dim=1)
    for one in changed:
        rows, columns = one.any(dim=1).nonzero(), one.any(dim=0).nonzero()
        assert rows.max() - rows.min() == columns.max() - columns.min() == 4
        assert one.sum() == 25


class Counting(nn.Module):
    """Counts the images that it is asked about."""

    def __init__(self, model):
        super().__init__()
        self.model, self.asked = model, 0

    def forward(self, x):
        self.asked += len(x)
        return self.model(x)


def test_square_asks_no_more_than_it_may_and_stops_when_done(model, data):
    x, y = data
    counting = Counting(model)
    Square(0.0, queries=10)(counting, x, y)  # never succeeds
    assert counting.asked == 10 * len(x)
    wrong = Counting(model)
    Square(0.0, queries=10)(wrong, x, (y + 1) % 6)  # has succeeded before it starts
    assert wrong.asked == len(x)


def test_square_changes_every_pixel_by_the_budget_or_up_to_the_range(model, data):
    x, y = data
    attacked = Square(8 / 255, queries=20)(model, x, y)
    full = torch.stack([(x + 8 / 255).clamp(0, 1), (x - 8 / 255).clamp(0, 1)])
    assert ((full - attacked).abs().amin(dim=0) < 1e-6).all()


def test_square_lowers_the_margin_with_more_queries(model, data):
    x, y = data

    def margins(queries):
        torch.manual_seed(0)
        logits = model(Square(2 / 255, queries)(model, x, y)).detach()
        own = logits.gather(1, y[:, None])
        return own - logits.scatter(1, y[:, None], -math.inf).amax(1, keepdim=True)

    assert margins(100).mean() < margins(2).mean()


class Redness(nn.Module):
    """Class 1 where red is stronger than blue on average."""

    def forward(self, x):
        score = (x[:, 0] - x[:, 2]).mean(dim=(1, 2))
        return torch.stack([-score, score], dim=1)


def test_colour_takes_the_smallest_hue_that_changes_the_class_or_nothing():
    x = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0.5, 0.5, 0.5]]).view(3, 3, 1, 1)
    x = x.expand(-1, -1, 4, 4)
    y = Redness()(x).argmax(dim=1)
    shifted = ColourShift()(Redness(), x, y)
    assert (Redness()(shifted[:2]).argmax(dim=1) != y[:2]).all()
    assert torch.equal(shifted[2], x[2])  # grey has no hue
    assert shifted[0, 0, 0, 0] <= shifted[0, 2, 0, 0]  # red has gone round to blue


@names(("name", "expected"), [("square4", Square(4 / 255)), ("targeted8", TargetedPGD(8 / 255))])
def test_named(name, expected):
    assert named_attack(name) == expected


def test_what_is_confined_changes_one_square_and_all_of_it(model, data):
    x, y = data
    changed = (ConfinedPGD(8 / 255, side=0.5, steps=5)(model, x, y) - x).abs().amax(dim=1) > 0
    for one in changed:
        rows, columns = (one.any(dim=axis).nonzero().flatten() for axis in (1, 0))
        square = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert square.shape == (10, 10)
        assert square.float().mean() > 0.9
