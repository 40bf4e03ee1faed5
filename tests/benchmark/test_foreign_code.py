"""What foreign attacks do to a model, to randomness and to a run: nothing."""

import random

import numpy as np
import pytest
import torch
from manners import untouched
from torch import nn

from pytorch_ood_viyog.benchmark.attacks import craft


def net():
    """An untrained net that answers with all of its classes."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    ).eval()
    made[4].bias.data -= made(torch.rand(50, 3, 8, 8)).mean(0).detach()
    return made


@pytest.fixture
def model():
    return net()


@pytest.fixture
def images(model):
    x = torch.rand(12, 3, 8, 8)
    return x, model(x).argmax(1)


def changed(model, x):
    """A change that no random state has a part in."""
    return 1 - x


def leaves_training_mode(model, x, y):
    model.train()
    model(torch.rand_like(x))
    return x


def leaves_a_part_in_training_mode(model, x, y):
    model[1].train()
    return x


def trains(model, x, y):
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    return x


def moves_to_double(model, x, y):
    model.double()
    return x


def leaves_a_hook(model, x, y):
    model[0].register_forward_hook(lambda module, inputs, output: output * 0)
    return x


def replaces_a_buffer(model, x, y):
    model[1].running_mean = torch.full((4,), 100.0)
    return x


def switches_gradients_off(model, x, y):
    torch.set_grad_enabled(False)
    return x


INTRUDERS = [
    leaves_training_mode,
    leaves_a_part_in_training_mode,
    trains,
    moves_to_double,
    leaves_a_hook,
    replaces_a_buffer,
    switches_gradients_off,
]


@pytest.mark.parametrize("attack", INTRUDERS, ids=lambda f: f.__name__)
def test_an_attack_that_changes_the_model_and_no_image_succeeds_nowhere(model, images, attack):
    model.train()
    model[0].weight.grad = gradient = torch.ones_like(model[0].weight)
    with untouched(model):
        found = craft(model, attack, *images, batch_size=4, progress=False)
    assert model[0].weight.grad is gradient
    assert bool((gradient == 1).all())
    assert (found.size.attacked, found.size.succeeded, found.size.unchanged) == (12, 0, 12)

    def fails(model, x, y):
        attack(model, x, y)
        raise ArithmeticError("of the attack")

    with untouched(model), pytest.raises(ArithmeticError, match="of the attack"):
        craft(model, fails, *images, progress=False)


def test_randomness_of_all_three_is_seeded_and_given_back(model, images):
    drawn = []

    def draws(model, x, y):
        assert not any(module.training for module in model.modules())
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
        return x

    with untouched(model.train()):
        for seed in (0, 0, 1):  # two batches each
            craft(model, draws, *images, batch_size=6, seed=seed, progress=False)
    assert drawn[:2] == drawn[2:4]
    for other in (1, 4):
        assert all(a != b for a, b in zip(drawn[0], drawn[other], strict=True))


def test_images_in_double_precision_reach_the_model_in_its_own(model, images):
    """As attacks of the adversarial-robustness-toolbox hand them over."""

    def asks_in_double(model, x, y):
        assert model(x.double()).dtype == torch.float32
        return changed(model, x).double()

    found = craft(model, asks_in_double, *images, progress=False)
    assert torch.equal(found.x, craft(model, lambda m, x, y: changed(m, x), *images).x)


RETURNED = {
    "tensor": lambda x: x,
    "double": lambda x: x.double(),
    "half": lambda x: x.half(),
    "with gradient": lambda x: x.clone().requires_grad_(),
    "numpy": lambda x: x.numpy(),
    "numpy, float64": lambda x: x.numpy().astype(np.float64),
    "numpy, reversed": lambda x: x.flip(0).numpy()[::-1],
    "foolbox": lambda x: (x * 0, x, torch.ones(len(x), dtype=torch.bool)),
    "images and targets": lambda x: (x, torch.zeros(len(x))),
    "a list of one": lambda x: [x],
}


@pytest.mark.parametrize("form", RETURNED)
def test_images_are_taken_in_any_form(model, images, form):
    expected = craft(model, lambda m, x, y: changed(m, x), *images, progress=False)
    found = craft(model, lambda m, x, y: RETURNED[form](changed(m, x)), *images, progress=False)
    assert expected.size.succeeded > 0
    assert found.index.tolist() == expected.index.tolist()
    torch.testing.assert_close(found.x, expected.x, atol=1.01 / 255, rtol=0)


def test_images_of_nan_are_failures(model, images):
    """foolbox's NewtonFool returns such images."""

    def sometimes(model, x, y):
        adversarial = changed(model, x)
        adversarial[::2] = torch.nan
        return adversarial

    expected = craft(model, lambda m, x, y: changed(m, x), *images, progress=False)
    found = craft(model, sometimes, *images, progress=False)
    assert found.index.tolist() == [i for i in expected.index.tolist() if i % 2]
    assert (found.size.attacked, found.size.broken) == (12, 6)


def test_images_beyond_the_range_are_counted(model, images):
    with pytest.warns(UserWarning, match=r"12 of 12 images outside \[0, 1\]"):
        found = craft(model, lambda m, x, y: x * 255, *images, progress=False)
    assert found.size.outside == 12


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda x: x[:, :, :4], ValueError, r"shape \(12, 3, 8, 8\), got shape \(12, 3, 4, 8\)"),
        (lambda x: None, TypeError, "got NoneType"),
        (lambda x: (x * 255).to(torch.uint8), ValueError, r"floating point in \[0, 1\].*uint8"),
        (lambda x: [x, x], ValueError, "one budget"),
        (lambda x: ([x, x], [x, x], torch.ones(2, 12)), ValueError, "one budget"),
        (lambda x: {"x": x}, TypeError, "got dict"),
    ],
)
def test_what_are_no_images_is_told_in_a_line(model, images, returned, error, message):
    with pytest.raises(error, match=message) as raised:
        craft(model, lambda m, x, y: returned(x), *images, progress=False)
    assert "\n" not in str(raised.value)


class TestOneOutput:
    """A sigmoid's single number is no class: argmax would be 0 for every image."""

    @pytest.mark.parametrize("flat", [False, True])
    def test_is_refused_with_the_remedy(self, flat):
        head = [nn.Flatten(0)] if flat else []
        single = nn.Sequential(nn.Flatten(), nn.Linear(192, 1), *head)
        x, y = torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)
        with pytest.raises(ValueError, match=r"one number an image.*logits=lambda"):
            craft(single, lambda m, x, y: x, x, y, progress=False)

    def test_the_remedy_works(self):
        single = nn.Sequential(nn.Flatten(), nn.Linear(192, 1, bias=False))
        x = torch.rand(9, 3, 8, 8)
        y = (single(x).squeeze(1) > 0).long()
        against = single[1].weight.detach().view(3, 8, 8).sign()
        found = craft(
            single,
            lambda m, x, y: (x + against * (1 - 2 * y.view(-1, 1, 1, 1))).clamp(0, 1),
            *(x, y),
            logits=lambda z: torch.cat([torch.zeros_like(z), z], 1),
            progress=False,
        )
        assert (found.size.attacked, found.size.succeeded) == (9, 9)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: y + 0.5, r"class numbers.*\.5"),
        (lambda y: nn.functional.one_hot(y, 3), r"one-hot.*argmax"),
        (lambda y: [f"class {i}" for i in y], r"class numbers"),
    ],
)
def test_labels_that_are_no_class_numbers_are_named(model, images, labels, message):
    x, y = images
    with pytest.raises((ValueError, TypeError), match=message):
        craft(model, lambda m, x, y: x, x, labels(y), progress=False)


@pytest.mark.parametrize("form", [lambda y: y.float(), lambda y: y.numpy(), lambda y: y.tolist()])
def test_labels_in_other_forms_are_taken(model, images, form):
    x, y = images
    assert craft(model, lambda m, x, y: x, x, form(y), progress=False).size.attacked == 12
