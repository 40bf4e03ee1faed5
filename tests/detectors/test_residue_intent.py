"""ViyogResidue that reads intent itself: a lower score, a fourth likelihood, one fit."""

import copy

import pytest
import torch
from networks import SmallNet, build
from PIL import features
from smooth_images import images
from torch import nn

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.deploy import maps_to_scores
from pytorch_ood_viyog.detectors import ResidueView, ViyogIntent
from pytorch_ood_viyog.detectors.readings import intent_readings
from pytorch_ood_viyog.images import BenignChange
from pytorch_ood_viyog.residue.intent.evidence import joined
from pytorch_ood_viyog.residue.intent.layer_gradient import LayerGradient


@pytest.fixture(scope="module")
def model():
    return build(SmallNet)


@pytest.fixture(scope="module")
def plain(model):
    return ViyogResidue(model, sample_size=32).fit([images(32, 1)])


@pytest.fixture(scope="module")
def reading(model):
    return ViyogResidue(model, sample_size=32, intent="filters").fit([images(32, 1)])


def test_a_score_is_lowered_where_there_is_a_residue_that_is_not_shaped_as_an_attacks():
    # even odds at a score of 1; residues nearly always exceed an intent of -1
    state = {"centre": -2.0, "spread": 2.0, "least_intent": -1.0}
    state = {name: torch.tensor(value).double() for name, value in state.items()}
    score = torch.tensor([5.0, 5.0, 5.0, 0.0, 1.5, -3.0]).double()
    intent = torch.tensor([0.0, -1.0, -3.0, -3.0, -3.0, -9.0]).double()
    expected = torch.tensor([5.0, 5.0, 3.0, -1.0, -0.5, -7.0]).double()
    assert expected[3] == 1 - 2  # not beneath even odds less what the intent lacks
    assert torch.equal(joined(score, intent, state), expected)


def test_score_and_likelihoods_join_both_readings(model, plain, reading):
    intent = ViyogIntent(model, residues="filters", sample_size=32).fit([images(32, 1)])
    x = torch.cat([images(20, 2), BenignChange("white noise", 8)(images(20, 2))])
    state = reading._require_state()
    assert torch.equal(reading(x), joined(plain(x), intent(x), state))
    assert torch.equal(reading.log_likelihoods(x), intent.log_likelihoods(x))
    assert reading.log_likelihoods(x).shape == (40, 4)
    assert plain.log_likelihoods(x).shape == (40, 3)
    alarm = ResidueView(reading)
    assert torch.equal(alarm(x), ResidueView(plain)(x))  # an alarm is for anything


def test_benign_images_score_lower(plain, reading):
    x = images(40, 3)
    for change in (BenignChange("white noise", 8), BenignChange("sharpening", 200)):
        assert (reading(change(x)) <= plain(change(x))).all()
    strict = copy.copy(reading)  # attacks nearly always exceed far more
    strict._state = reading._require_state() | {"least_intent": torch.tensor(9.0).double()}
    noisy = BenignChange("white noise", 8)(x)
    assert (plain(noisy) - strict(noisy)).mean() > 4
    assert torch.equal(reading.benign_scores(x, seed=2), reading.benign_scores(x, seed=2))
    with pytest.raises(ValueError, match="needs what intent simulates"):
        plain.benign_scores(x)


def test_the_state_brings_its_own_settings(model, plain, reading, tmp_path):
    torch.save(reading.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    loaded = ViyogResidue(model).load_state_dict(state)
    x = BenignChange("JPEG", 50)(images(5, 4))
    assert torch.equal(loaded(x), reading(x))
    assert (loaded.intent, loaded.shaped_by) == ("filters", "filters")
    assert plain.shaped_by is None
    del state["tensors"]["least_intent"]
    with pytest.raises(ValueError, match="The tensors of the state must be"):
        ViyogResidue(model).load_state_dict(state)


def test_deployed_and_from_maps_as_with_the_model(model, reading):
    x = BenignChange("white noise", 4)(images(6, 5))
    with torch.no_grad():
        maps = model.stem(x)
    scores = maps_to_scores(reading)(maps)
    torch.testing.assert_close(scores, reading.predict_features(maps))
    torch.testing.assert_close(scores, reading(x), rtol=1e-3, atol=2e-2)


def test_two_fits_merge_to_one(model):
    x = images(8, 1)
    whole, one, other = (ViyogResidue(model, sample_size=8, intent="filters") for _ in range(3))
    whole.fit([x])
    torch.testing.assert_close(one.fit([x[:4]]).merge(other.fit([x[4:]]))(x), whole(x))
    with pytest.raises(ValueError, match="same settings"):
        one.merge(ViyogResidue(model, sample_size=8).fit([x]))


def test_intent_is_one_of_three(model):
    with pytest.raises(ValueError, match="intent must be 'auto', 'filters' or 'gradients', got 5"):
        ViyogResidue(model, intent=5)


def test_auto_takes_gradients_where_there_is_a_classifier(model):
    x = images(6, 7)
    settings = {"intent": "auto", "sample_size": 6}
    assert ViyogResidue(model, **settings).fit([x]).shaped_by == "gradients"
    no_classifier = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    assert ViyogResidue(no_classifier, **settings).fit([x]).shaped_by == "filters"
    maps = no_classifier[0](x).detach()
    from_maps = ViyogResidue(None, layer=no_classifier[0], **settings).fit_features(maps)
    assert from_maps.shaped_by == "filters"


def test_the_gradient_of_clean_images_is_computed_once(model):
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    gradient, x = LayerGradient(model, model.stem.conv), images(2, 8)
    try:
        first = gradient(x, x)
        assert gradient(x, x) is first
        assert len(calls) == 1
        moved = gradient(x + 0.1, x)
        assert len(calls) == 2
        assert not torch.equal(moved, first)
        other = x.clone()
        assert torch.equal(gradient(other, other), first)
        assert len(calls) == 3
    finally:
        handle.remove()


def test_a_pillow_without_webp_leaves_that_kind_out(model, monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    assert not BenignChange("WebP", 80).available
    assert BenignChange("JPEG", 80).available
    assert BenignChange("blur", 1).available
    detector = ViyogIntent(model, residues="filters", sample_size=8).fit([images(8, 1)])
    assert torch.isfinite(detector.benign_scores(images(30, 2))).all()
    with pytest.raises(ImportError, match="without WebP"):
        BenignChange("WebP", 80)(images(1, 1))


@pytest.mark.parametrize("progress", [True, False])
def test_the_simulation_shows_its_progress_if_asked(model, monkeypatch, progress):
    seen = []

    def bar(parts, *, disable, **_):
        seen.append(disable is None)
        return parts

    monkeypatch.setattr(intent_readings, "tqdm", bar)
    detector = ViyogIntent(model, residues="filters", sample_size=4)
    detector.fit([images(4, 1)], progress=progress)
    with torch.no_grad():
        detector.fit_features(model.stem(images(4, 1)))
    assert seen == [progress, False]


def with_a_floor(count, seed):
    """Each image has some noise of its own, as photographs have."""
    generator = torch.Generator().manual_seed(seed + 50)
    level = torch.rand(count, 1, 1, 1, generator=generator) ** 3 * 2 / 255
    noise = torch.randn(count, 3, 20, 20, generator=generator)
    return ((images(count, seed) + level * noise).clamp(0, 1) * 255).round() / 255


def test_what_means_adv_hardly_depends_on_the_size_of_the_sample(model):
    x, new = with_a_floor(300, 9), with_a_floor(80, 10)
    signs = torch.randint(-1, 2, new.shape, generator=torch.Generator().manual_seed(1))
    attacked = ((new + 4 / 255 * signs).clamp(0, 1) * 255).round() / 255
    shares = []
    for size in (64, 300):
        detector = ViyogResidue(model, sample_size=size).fit([x])
        shares.append(float((detector(attacked) > detector.least_adv).double().mean()))
    assert abs(shares[0] - shares[1]) < 0.06
    assert min(shares) > 0.9
