"""What is made of ID images: in 8 bit, in range, seeded, successful where it attacks."""

import pytest
import torch
from manners import untouched
from patterned import pattern_net, patterned

from pytorch_ood_viyog.images.pixel_range import PixelRange
from pytorch_ood_viyog.populations import (
    ATTACKS,
    FOREIGN,
    Classifier,
    NoGradientsError,
    Verdict,
    benign,
    bounded,
    foreign,
    minimal,
    simulated,
    smooth,
)
from pytorch_ood_viyog.populations.classifier import Unaimed, margin

UNIT = PixelRange(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))


@pytest.fixture(scope="module")
def net():
    return pattern_net()


@pytest.fixture(scope="module")
def x():
    return patterned(40, 1)[0]


@pytest.fixture(scope="module")
def classifier(net):
    return Classifier(net, UNIT)


@pytest.fixture(scope="module")
def answers(classifier, x):
    return classifier.answers(x)


def in_8_bit(x):
    levels = x * 255
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    return bool((levels - levels.round()).abs().max() < 1e-3)


def test_margin_by_hand():
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, 1.0]])
    assert margin(logits, torch.tensor([0, 2])).tolist() == [0.5, -3.0]


def test_a_classifier_takes_images_and_asks_in_the_models_range(net, x):
    normalised = PixelRange(torch.full((3,), -1.0).double(), torch.full((3,), 1.0).double())
    asked = Classifier(lambda_model(net), normalised)
    assert torch.equal(asked.answers(x), net(2 * x - 1).argmax(dim=1))


def lambda_model(net):
    return torch.nn.Sequential(net)


def test_its_gradient_is_that_of_the_losses(classifier, net, x):
    gradient, losses = classifier.gradient(x[:4], lambda logits: logits[:, 0].square())
    leaf = x[:4].clone().requires_grad_()
    expected = net(leaf)[:, 0].square()
    (by_hand,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(gradient, by_hand)
    torch.testing.assert_close(losses, expected.detach())


def test_the_model_is_left_as_found(x):
    net = pattern_net().train()
    with untouched(net):
        list(simulated(Classifier(net, UNIT), x[:12]))
    assert net.training


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_seeded_and_in_8_bit(classifier, x, answers, name):
    one = ATTACKS[name](classifier, x, answers, 5)
    assert in_8_bit(one)
    assert one.shape == x.shape
    assert torch.equal(one, ATTACKS[name](classifier, x, answers, 5))
    assert not torch.equal(one, ATTACKS[name](classifier, x, answers, 6))


@pytest.mark.parametrize("steps", [1, 5])
def test_bounded_attacks_stay_within_8_grey_levels(classifier, x, answers, steps):
    change = (bounded(classifier, x, answers, steps, 0) - x).abs()
    largest = (255 * change.flatten(1).amax(dim=1)).round()
    assert 1 <= int(largest.median()) <= int(largest.max()) <= 8


def test_minimal_attacks_are_smaller_than_bounded_ones(classifier, x, answers):
    small = minimal(classifier, x, answers, 0)
    fooled = classifier.fooled(small, answers)
    assert float(fooled.double().mean()) > 0.7

    def rms(changed):
        return float((changed - x)[fooled].square().mean().sqrt())

    assert rms(small) < rms(bounded(classifier, x, answers, 1, 0))


def test_smooth_attacks_leave_the_finest_detail_alone(classifier, x, answers):
    def fine(change):  # differences of neighbours against the change itself
        steps = change[..., 1:] - change[..., :-1]
        return float(steps.square().mean() / change.square().mean())

    blurred = smooth(classifier, x, answers, 0) - x
    assert fine(blurred) < 0.3 * fine(bounded(classifier, x, answers, 1, 0) - x)


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 12, 18), (3, 15, 17)])
def test_foreign_images_keep_their_shape_and_differ(name, shape):
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(3))
    changed = FOREIGN[name](images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert bool(((changed >= 0) & (changed <= 1)).all())
    assert float((changed - images).abs().mean()) > 0.01


def test_tiles_are_those_of_the_image():
    images = torch.arange(16.0).view(1, 1, 4, 4) / 15
    found = FOREIGN["tiles"](images, torch.Generator().manual_seed(1))
    straight = {*images.flatten().tolist(), *(1 - images).flatten().tolist()}
    assert set(found.flatten().tolist()) <= straight
    # each quarter holds the pixels of one quarter, or their negatives
    quarters = [images[0, 0, i : i + 2, j : j + 2] for i in (0, 2) for j in (0, 2)]
    known = [sorted(q.flatten().tolist()) for q in quarters]
    known += [sorted((1 - q).flatten().tolist()) for q in quarters]
    for i in (0, 2):
        for j in (0, 2):
            assert sorted(found[0, 0, i : i + 2, j : j + 2].flatten().tolist()) in known


@pytest.mark.parametrize("change", [benign, foreign])
def test_whole_populations_are_seeded_and_in_8_bit(x, change):
    one = change(x, 3)
    assert in_8_bit(one)
    assert torch.equal(one, change(x, 3))
    assert not torch.equal(one, change(x, 4))


def test_benign_changes_suit_grey_images():
    grey = patterned(20, 1, channels=1)[0]
    assert benign(grey, 0).shape == grey.shape


def test_simulated_populations(classifier, x, answers):
    found = {p.name: p for p in simulated(classifier, x, seed=2)}
    assert set(found) == {"ID", "benign", "foreign", "foreign, benign", *ATTACKS}
    assert torch.equal(found["ID"].images, x)
    for population in found.values():
        assert len(population.images) == len(population.source)
        assert in_8_bit(population.images)
        if population.verdict == Verdict.ADV:  # successes only, of the image that is named
            assert bool(classifier.fooled(population.images, answers[population.source]).all())


def test_populations_can_be_left_out(classifier, x):
    left_out = ("smooth", "benign", "foreign", "foreign, benign", "five steps", "minimal")
    assert [p.name for p in simulated(classifier, x[:8], leave_out=left_out)] == ["ID", "one step"]


def test_images_pass_the_way_after_the_attack(classifier, x):
    def darker(images, seed):
        return (images * 0.9 * 255).round() / 255

    left_out = ("foreign", "foreign, benign", "five steps", "smooth", "benign")
    found = list(simulated(classifier, x, leave_out=left_out, through=darker))
    answers = classifier.answers(darker(x, 0))
    assert all(float(p.images.max()) <= 0.91 for p in found)
    for population in found[1:]:
        assert bool(classifier.fooled(population.images, answers[population.source]).all())


def test_a_model_without_gradients(x):
    class Rounds(torch.nn.Module):
        def forward(self, images):
            return images.mean(dim=(2, 3)).detach()

    blind = Classifier(Rounds(), UNIT)
    assert not blind.can_be_differentiated(x[:2])
    with pytest.raises(NoGradientsError):
        blind.gradient(x[:2], lambda logits: logits[:, 0])
    unaimed = Unaimed(blind, lambda images, _: torch.ones_like(images))
    changed = bounded(unaimed, x, blind.answers(x), 1, 0)
    assert bool((changed >= x).all())
    assert bool(unaimed.fooled(changed, blind.answers(x)).all())
