"""What is made of ID images: in 8 bit, in range, seeded, and only as far as promised."""

import pytest
import torch
from attacked import id_images, trained
from linear_models import Brightness
from manners import untouched
from wrapped import Normalised

from pytorch_ood_viyog.images.pixel_range import PixelRange
from pytorch_ood_viyog.triage.populations import (
    ATTACKS,
    FOREIGN,
    REMADE,
    Classifier,
    Verdict,
    benign,
    bounded,
    foreign,
    minimal,
    remade,
    simulated,
    smooth,
)

UNIT = PixelRange(torch.zeros(3), torch.ones(3))


@pytest.fixture(scope="module")
def images():
    return (id_images(copies=1)[0] * 255).round() / 255


@pytest.fixture(scope="module")
def classifier():
    return Classifier(trained(), UNIT)


@pytest.fixture(scope="module")
def populations(classifier, images):
    return {each.name: each for each in simulated(classifier, images)}


def in_8_bit(x):
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    torch.testing.assert_close(x * 255, (x * 255).round(), rtol=0, atol=1e-3)


def test_there_is_one_of_each_family(populations, classifier, images):
    made = {"ID", "benign", "foreign", "foreign, benign", "foreign, remade"}
    assert set(populations) == {*made, *ATTACKS}
    assert {each.verdict for each in populations.values()} == set(Verdict)
    assert torch.equal(populations["ID"].images, images)
    for each in populations.values():
        in_8_bit(each.images)
        assert len(each.source) == len(each.images)
        assert each.images.shape[1:] == images.shape[1:]
    answers = classifier.answers(images)
    for made in map(populations.get, ATTACKS):  # successful ones only
        assert made.verdict == Verdict.ADV
        assert len(made.images)
        assert (classifier.answers(made.images) != answers[made.source]).all()


def test_a_seed_gives_the_same_and_another_seed_others(populations, classifier, images):
    def made(seed):
        names = [n for n in populations if n not in ("benign", "five steps")]
        found = simulated(classifier, images, seed=seed, leave_out=names)
        return {population.name: population.images for population in found}

    again, other = made(0), made(1)
    assert set(again) == {"benign", "five steps"}
    assert all(torch.equal(again[name], made(0)[name]) for name in again)
    assert not torch.equal(again["benign"], other["benign"])


@pytest.mark.parametrize("steps", [1, 5])
def test_bounded_attacks_keep_to_their_budget(steps, classifier, images):
    changed = bounded(classifier, images, classifier.answers(images), steps, 0)
    most = (changed - images).abs().flatten(1).amax(dim=1) * 255
    assert float(most.max()) <= 16.5
    assert float(most.min()) >= 0.5
    assert len(most.round().unique()) > 3, "budgets differ"


def test_smooth_attacks_keep_to_their_budget_and_are_smooth(classifier, images):
    answers = classifier.answers(images)
    change = smooth(classifier, images, answers, 0) - images
    assert float(change.abs().max()) * 255 <= 16.5

    def rough(x):
        return float(x.diff(dim=3).square().mean() / x.square().mean())

    assert rough(change) < rough(bounded(classifier, images, answers, 1, 0) - images)


def test_minimal_attacks_go_as_far_as_it_takes():
    """The boundary is where the mean is a half: half a step of 8 bit above is 128 of 255."""
    x = torch.full((5, 1, 6, 6), 0.0) + torch.tensor([118, 121, 124, 130, 134.0]).view(-1, 1, 1, 1)
    x = x / 255
    grey = Classifier(Brightness(), PixelRange(torch.zeros(1), torch.ones(1)))
    answers = grey.answers(x)
    changed = minimal(grey, x, answers, 0)
    assert grey.fooled(changed, answers).all()
    moved = (changed - x).mean(dim=(1, 2, 3)) * 255
    needed = 127.5 - x.mean(dim=(1, 2, 3)) * 255
    assert torch.equal(moved.sign(), needed.sign())
    # at most half the way further, and a step of rounding
    assert (moved.abs() <= 1.6 * needed.abs() + 1.5).all()


def test_the_users_model_is_left_as_found(images):
    model = trained()
    model.train()
    next(model.parameters()).requires_grad_(False)
    with untouched(model):
        list(simulated(Classifier(model, UNIT), images[:8]))


def test_normalised_inputs_are_attacked_as_images(images, classifier):
    pixels = PixelRange(torch.full((3,), -2.0), torch.full((3,), 2.0))
    answers = classifier.answers(images)
    own = bounded(Classifier(Normalised(trained()), pixels), images, answers, 1, 0)
    expected = bounded(classifier, images, answers, 1, 0)
    assert float((own != expected).float().mean()) < 0.01


def test_what_happens_on_the_way_happens_to_all(classifier, images):
    seen = []

    def way(x, seed):
        seen.append(len(x))
        return (x * 15).round() / 15

    for each in simulated(classifier, images, through=way):
        torch.testing.assert_close(each.images * 15, (each.images * 15).round())
    assert len(seen) > 6


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_images_keep_their_shape_and_are_others(name, channels):
    x = torch.rand(6, channels, 13, 10)
    changed = FOREIGN[name](x, torch.Generator().manual_seed(0))
    assert changed.shape == x.shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert not torch.allclose(changed, x, atol=0.05)
    assert name != "inverted" or torch.equal(changed, 1 - x.flip(2))


@pytest.mark.parametrize("change", [benign, foreign, remade])
def test_changes_of_images_are_seeded_and_in_8_bit(change, images):
    before, changed = images.clone(), change(images, 4)
    in_8_bit(changed)
    assert torch.equal(images, before)
    assert torch.equal(changed, change(images, 4))
    assert not torch.equal(changed, change(images, 5))
    for few in (images[:, :1], images[:3], images[:1], images[:0]):
        assert change(few, 4).shape == few.shape
    if change is foreign:
        assert ((changed - images).abs().flatten(1).amax(dim=1) > 0.1).all()


def test_benign_changes_need_images():
    with pytest.raises(ValueError, match=r"need images in \[0, 1\], got values from"):
        benign(255 * torch.rand(2, 3, 8, 8), 4)


@pytest.mark.parametrize("name", REMADE)
@pytest.mark.parametrize("shape", [(1, 3, 2), (3, 20, 30), (6, 16, 16)])
def test_remade_images_keep_their_shape(name, shape):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=generator)
    changed = REMADE[name](image, generator)
    assert changed.shape == image.shape
    assert changed.isfinite().all()
    if min(shape[1:]) > 2:
        assert not torch.equal(changed, image)


def test_a_framed_image_stands_on_one_grey():
    image = torch.full((3, 20, 20), 0.5)
    framed = REMADE["framed"](image, torch.Generator().manual_seed(2))
    assert len(framed[:, 0].unique()) == 1
    torch.testing.assert_close(framed[:, 10, 10], image[:, 10, 10])


def test_of_few_images_more_foreign_ones_are_made(classifier, images):
    only = ["ID", "benign", "foreign, benign", *ATTACKS]
    few = {p.name: p for p in simulated(classifier, images[:40], leave_out=only)}
    sizes = {name: len(population.images) for name, population in few.items()}
    assert sizes == {"foreign": 120, "foreign, remade": 120}
    assert torch.equal(few["foreign"].source, torch.arange(40).repeat(3))
    assert not torch.equal(few["foreign"].images[:40], few["foreign"].images[40:80])
