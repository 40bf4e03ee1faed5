"""Square, the attack of our own: budgets kept, queries counted; and attacks by name."""

import math

import pytest
import torch
from networks import close_classes
from torch import nn

from pytorch_ood_viyog.benchmark.attacks import Square, craft, named_attack


@pytest.fixture
def case():
    return close_classes()


@pytest.fixture
def model(case):
    return case[0]


@pytest.fixture
def data(case):
    return case[1:]


def test_square_keeps_to_images_and_its_budget_and_changes_classes(model, data):
    x, y = data
    before = x.clone()
    attacked = Square(8 / 255, queries=30)(model, x, y)
    assert torch.equal(x, before)
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert not attacked.requires_grad
    assert (model(attacked).argmax(dim=1) != y).any()
    full = torch.stack([(x + 8 / 255).clamp(0, 1), (x - 8 / 255).clamp(0, 1)])
    assert ((full - attacked).abs().amin(dim=0) < 1e-6).all()  # the budget, or up to the range


def test_results_of_square_repeat(model, data, tmp_path):
    attack, (x, y) = Square(8 / 255, queries=30), data
    one, other = (craft(model, attack, x, y, cache=tmp_path, progress=False) for _ in range(2))
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.x, craft(model, attack, x, y, progress=False).x)


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


def test_square_lowers_the_margin_with_more_queries(model, data):
    x, y = data

    def margins(queries):
        torch.manual_seed(0)
        logits = model(Square(2 / 255, queries)(model, x, y)).detach()
        own = logits.gather(1, y[:, None])
        return own - logits.scatter(1, y[:, None], -math.inf).amax(1, keepdim=True)

    assert margins(100).mean() < margins(2).mean()


def test_named(model, data):
    assert named_attack("square4") == Square(4 / 255)
    with pytest.raises(ValueError, match=r"no attack named 'pgd'; names are fgsmN, pgdN"):
        named_attack("pgd")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_targeted_aims_at_one_other_class(model, data):
    """With a large budget every image arrives at its target, which the seed decides."""
    pytest.importorskip("foolbox")
    x, y = data
    torch.manual_seed(3)
    found = model(named_attack("targeted77")(model, x, y)).argmax(dim=1)
    torch.manual_seed(3)
    assert torch.equal(found, (y + torch.randint(1, 6, y.shape)) % 6)
