"""Square, the attack of our own: budgets kept, queries counted; and attacks by name."""

import pytest
import torch
from networks import close_classes

from pytorch_ood_viyog.benchmark.attacks import Square, named_attack


def test_square_keeps_to_images_and_its_budget_and_changes_classes():
    model, x, y = close_classes()
    before = x.clone()
    assert named_attack("square8") == Square(8 / 255)
    attacked = Square(8 / 255, queries=30)(model, x, y)
    assert torch.equal(x, before)
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert not attacked.requires_grad
    assert (model(attacked).argmax(dim=1) != y).any()
    full = torch.stack([(x + 8 / 255).clamp(0, 1), (x - 8 / 255).clamp(0, 1)])
    assert ((full - attacked).abs().amin(dim=0) < 1e-6).all()  # the budget, or up to the range


def test_square_asks_no_more_than_it_may_and_stops_when_done():
    (model, x, y), asked = close_classes(), []
    model.register_forward_hook(lambda model, args, logits: asked.append(len(logits)))
    Square(0.0, queries=10)(model, x, y)  # never succeeds
    assert sum(asked) == 10 * len(x)
    asked.clear()
    Square(0.0, queries=10)(model, x, (y + 1) % 6)  # has succeeded before it starts
    assert sum(asked) == len(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_targeted_aims_at_one_other_class():
    """With a large budget every image arrives at its target, which the seed decides."""
    pytest.importorskip("foolbox")
    model, x, y = close_classes()
    torch.manual_seed(3)
    found = model(named_attack("targeted77")(model, x, y)).argmax(dim=1)
    torch.manual_seed(3)
    assert torch.equal(found, (y + torch.randint(1, 6, y.shape)) % 6)
