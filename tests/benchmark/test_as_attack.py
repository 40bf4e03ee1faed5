"""Attacks as other libraries make them: recognised, wrapped, refused in one line."""

import sys
from functools import partial

import digits
import numpy as np
import pytest
import torch
from torch import nn
from wrapped import Packed

from pytorch_ood_viyog.benchmark.attacks import as_attack, craft


@pytest.fixture
def model():
    return digits.trained()


@pytest.fixture
def images():
    _, (x, y) = digits.images()
    return x[:16], y[:16]


def run(model, attack, images, **options):
    return craft(model, attack, *images, progress=False, **options)


def of(module, **members):
    """An object whose class comes from a module of another library."""
    kind = type("Attack", (), members)
    kind.__module__ = module
    return kind


class Estimator:
    def __init__(self, model):
        self.model = model


def like_torchattacks(model):
    def start(self, net):
        self.model, self.targeted, self._target_map_function = net, False, None

    def by_label(self, quiet=False):
        self.targeted = True

    def call(self, x, y):
        assert isinstance(self.model, nn.Module)
        if self.targeted:
            return (x + 0.1 * y.view(-1, 1, 1, 1)).clamp(0, 1)
        return 1 - x

    kind = of(
        "torchattacks.attacks.pgd",
        __init__=start,
        __call__=call,
        set_mode_targeted_by_label=by_label,
        set_model=lambda self, net: setattr(self, "model", net),
    )
    return kind(model)


def like_art(model, targeted=False):
    def generate(self, x, y=None):
        assert isinstance(x, np.ndarray)
        assert isinstance(y, np.ndarray)
        return (x + 0.1 * y.reshape(-1, 1, 1, 1)).clip(0, 1) if self.targeted else 1.0 - x

    kind = of("art.attacks.evasion.pgd", generate=generate, targeted=targeted)
    attack = kind()
    attack.estimator = Estimator(model)
    return attack


def like_secml():
    def call(self, model, loader):
        return [(1 - x, y) for x, y in loader]

    return of("secmlt.adv.evasion.pgd", __call__=call)()


def inverted(model, x, y):
    return 1 - x


def brighter(model, x, y, targeted):
    return (x + 0.1 * y.view(-1, 1, 1, 1)).clamp(0, 1)


FORMS = {
    "function": lambda model: inverted,
    "torchattacks": like_torchattacks,
    "torchattacks, class": lambda model: type(like_torchattacks(model)),
    "torchattacks, partial": lambda model: partial(type(like_torchattacks(model))),
    "ART": like_art,
    "ART, its method": lambda model: like_art(model).generate,
    "secml": lambda model: like_secml(),
    "wrapped twice": lambda model: as_attack(as_attack(like_art(model))),
    "with a key": lambda model: as_attack(like_art(model), key="mine"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(model, images, form):
    expected = run(model, inverted, images)
    found = run(model, FORMS[form](model), images)
    assert expected.size.succeeded > 0
    torch.testing.assert_close(found.x, expected.x)


TARGETED = {
    "function": lambda model: brighter,
    "torchattacks": like_torchattacks,
    "ART": lambda model: like_art(model, targeted=True),
}


@pytest.mark.parametrize("form", TARGETED)
def test_targets_take_the_place_of_labels(model, images, form):
    made = TARGETED[form](model)
    attack = as_attack(made, targets=lambda m, x, y: torch.full_like(y, 3))
    x, y = images
    with torch.no_grad():
        got = attack(model, x, y)
    torch.testing.assert_close(torch.as_tensor(got).float(), (x + 0.3).clamp(0, 1))
    if form == "torchattacks":
        assert not made.targeted  # the user's own object is as it was


class TestTargets:
    def test_by_name(self, images):
        class Ordered(nn.Module):
            def forward(self, x):
                return torch.tensor([[4.0, 1, 3, 0, 2]]).expand(len(x), 5)

        x, y = images[0][:3], torch.tensor([0, 2, 3])
        given = {}

        def attack(model, x, y, targeted):
            given["targets"] = y.tolist()
            assert targeted
            return x

        for name, expected in {
            "second": [2, 0, 0],
            "least likely": [3, 3, 1],
            2: [2, 3, 2],  # the next class for what is of this one
        }.items():
            as_attack(attack, targets=name)(Ordered(), x, y)
            assert given["targets"] == expected
        seen = set()
        for _ in range(50):
            as_attack(attack, targets="random")(Ordered(), x, y)
            assert all(t != label for t, label in zip(given["targets"], y.tolist(), strict=True))
            seen.add(given["targets"][0])
        assert seen == {1, 2, 3, 4}

    @pytest.mark.parametrize("targets", ["nearest", 0.5, True])
    def test_others_are_refused(self, targets):
        with pytest.raises(ValueError, match="targets must be one of random, least likely"):
            as_attack(inverted, targets=targets)


def needs(model, x, y, eps, norm):
    return x


REFUSED = {
    "a class": (lambda m: type(like_art(m)), "is a class: give an object"),
    "nothing": (lambda m: None, "NoneType is no attack"),
    "a number": (lambda m: 8 / 255, "float is no attack"),
    "two arguments": (lambda m: lambda x, y: x, "cannot be called with .model, x, y."),
    "settings missing": (lambda m: needs, r"needs more: as_attack\(\.\.\., eps=\.\.\., norm="),
    "another model": (lambda m: like_torchattacks(digits.plain()), "made for another model"),
    "another estimator": (lambda m: like_art(digits.plain()), "made for another model"),
    "targeted without targets": (lambda m: like_art(m, targeted=True), "go together"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_says_why_in_a_line(model, images, what):
    make, message = REFUSED[what]
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        run(model, make(model), images)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (like_torchattacks, {"eps": 0.1}, "eps cannot be given for .* of torchattacks: set it"),
        (lambda m: like_secml(), {"targets": 1}, "targets cannot be given .* of secmlt"),
        (like_art, {"epsilon": 0.1}, "epsilon cannot be given .* of art"),
        (lambda m: inverted, {"epsilon": 0.1}, "epsilon cannot be given for inverted"),
        (lambda m: inverted, {"steps": 3}, "inverted cannot be called .* 'steps'"),
    ],
)
def test_options_that_do_not_fit_are_named(model, make, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        as_attack(make(model), **options)


def test_settings_reach_a_function(model, images):
    given = []

    def attack(model, x, y, *, eps, norm, targeted):
        given.append((eps, norm, targeted))
        return x

    run(model, as_attack(attack, eps=0.1, norm=2, targeted=False), images)
    run(model, partial(attack, eps=0.1, norm=2), images)  # targeted=False is understood
    assert given == [(0.1, 2, False)] * 2


def test_torchattacks_told_of_a_normalisation_is_refused(model):
    attack = like_torchattacks(model)
    attack._normalization_applied = True
    with pytest.raises(ValueError, match="set_normalization_used"):
        as_attack(attack)


def test_torchattacks_made_for_a_model_that_returns_a_dictionary(images):
    model = Packed(digits.trained(), lambda z: {"answer": z, "other": z}).eval()
    attack = like_torchattacks(model)
    found = run(model, attack, images, logits=lambda output: output["answer"])
    assert torch.equal(found.x, run(digits.trained(), inverted, images).x)
    assert attack.model is model


def test_only_the_library_of_an_attack_is_imported(model, monkeypatch):
    for name in ("foolbox", "torchattacks", "art", "secmlt", "adv_lib"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would raise
    for form in FORMS.values():
        assert callable(as_attack(form(model)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestFoolbox:
    @pytest.fixture
    def foolbox(self):
        return pytest.importorskip("foolbox")

    def test_objects_and_partials(self, foolbox, model, images):
        pgd = foolbox.attacks.LinfPGD(steps=5)
        expected = run(model, as_attack(pgd, epsilon=0.3), images)
        assert expected.size.succeeded > 4
        assert expected.size.linf <= 0.3 * 255 + 0.6
        found = run(model, partial(pgd, epsilons=0.3), images)
        assert torch.equal(found.x, expected.x)
        assert run(model, foolbox.attacks.LInfFMNAttack(steps=20), images).size.fooled > 8

    def test_targets_and_criterion(self, foolbox, model, images):
        pgd = foolbox.attacks.LinfPGD(steps=20)
        found = run(model, as_attack(pgd, epsilon=0.5, targets=3), images)
        three = found.x[found.y != 3]
        assert (model(three).argmax(1) == 3).float().mean() > 0.7
        criterion = foolbox.criteria.Misclassification
        assert run(model, as_attack(pgd, epsilon=0.3, criterion=criterion), images).size.succeeded
        with pytest.raises(ValueError, match="both given"):
            as_attack(pgd, epsilon=0.3, criterion=criterion, targets=3)

    def test_a_missing_budget_is_told_and_several_are_refused(self, foolbox):
        attack, told = foolbox.attacks.LinfPGD(), r"foolbox needs a budget: as_attack\(\.\.\., eps"
        for each in (attack, attack.repeat(2)):
            with pytest.raises(ValueError, match=told):
                as_attack(each)
        with pytest.raises(ValueError, match="one budget"):
            as_attack(partial(attack, epsilons=[0.1, 0.2]))

    def test_a_criterion_that_it_does_not_take_is_told(self, foolbox, model, images):
        attack = as_attack(foolbox.attacks.GenAttack(steps=2), epsilon=0.1)
        with pytest.raises(ValueError, match=r"GenAttack .*give targets="):
            run(model, attack, images)
