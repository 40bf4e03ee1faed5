"""Intent: attacks above benign changes, one reading for all, and what cannot be asked."""

import copy

import pytest
import torch
from networks import InPlaceStem, SmallNet, build
from PIL import features
from pytorch_ood.api import RequiresFittingException
from smooth_images import images
from torch import nn

from pytorch_ood_viyog import SharedForward, ViyogResidue, viyog_metrics
from pytorch_ood_viyog.deploy import maps_to_scores
from pytorch_ood_viyog.detectors import ResidueView, ViyogIntent
from pytorch_ood_viyog.images import BenignChange
from pytorch_ood_viyog.layer.linear.effective_convolution import EffectiveConvolution
from pytorch_ood_viyog.residue.intent import conclusion
from pytorch_ood_viyog.residue.intent.evidence import joined
from pytorch_ood_viyog.residue.intent.shapes import filter_shaped, residue
from pytorch_ood_viyog.residue.reader import Reader


class Classifier(nn.Module):
    """With a convolution that follows the first in a nonlinear way, and a pad before it."""

    def __init__(self):
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv = nn.Conv2d(3, 16, 3)
        self.rest = nn.Sequential(nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.MaxPool2d(4))
        self.head = nn.LazyLinear(5)

    def forward(self, x):
        return self.head(self.rest(self.conv(self.pad(x))).flatten(1))


def attacked(conv, x, eps=8 / 255):
    conv = EffectiveConvolution.of(conv)
    direction = filter_shaped(conv, 0.05, torch.Generator().manual_seed(77))
    return (residue(x, direction, torch.ones(3, 1, 1), eps, 1).clamp(0, 1) * 255).round() / 255


def classifier():
    model = build(Classifier)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model(images(1, 0))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return build(SmallNet)


@pytest.fixture(scope="module")
def intent(model):
    return ViyogIntent(model, residues="filters", sample_size=80).fit([images(80, 1)])


def test_attacks_score_above_benign_changes(model, intent):
    x = images(60, 2)
    adv = intent(attacked(model.stem.conv, x))
    for change, least in (
        (BenignChange("white noise", 8), 0.75),
        (BenignChange("white noise", 3), 0.75),
        (BenignChange("JPEG", 75), 0.99),
        (BenignChange("sharpening", 100), 0.99),
    ):
        auroc = float(viyog_metrics(intent(change(x, seed=5)), adv)["AUROC"])
        assert auroc > least, str(change)
    assert (adv > 0).double().mean() > 0.7


@pytest.mark.parametrize("kind", ["white noise", "Poisson-Gaussian noise"])
def test_no_strength_of_noise_lies_in_a_gap_between_those_simulated(intent, kind):
    x = images(40, 9)
    means = [intent(BenignChange(kind, s)(x, seed=5)).mean() for s in (4, 4.8, 5.7, 6.7, 8)]
    assert max(means) < 0.5  # attacks: above 1


def test_gradients_shape_residues_too():
    model = classifier()
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.train()
    intent = ViyogIntent(model, residues="gradients", sample_size=40).fit([images(40, 1)])
    assert model.training
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in model.named_parameters())
    model.eval()
    x = images(40, 2).requires_grad_()
    loss = nn.functional.cross_entropy(model(x), model(x).argmax(dim=1))
    (gradient,) = torch.autograd.grad(loss, x)
    x = x.detach()
    adv = ((x + 8 / 255 * gradient.sign()).clamp(0, 1) * 255).round() / 255
    noisy = BenignChange("white noise", 8)(x)
    assert float(viyog_metrics(intent(noisy), intent(adv))["AUROC"]) > 0.9


def test_residue_and_intent_read_once_together(model, intent, monkeypatch):
    router = ViyogResidue(model, sample_size=80).fit([images(80, 1)])
    detectors = {"residue": router, "alarm": ResidueView(router), "intent": intent}
    pipeline, x = SharedForward(model, detectors), images(5, 3)
    alone = {name: detector.predict(x) for name, detector in detectors.items()}
    calls, found = [], Reader.features
    monkeypatch.setattr(Reader, "features", lambda *args: calls.append(1) or found(*args))
    scores = pipeline.predict(x)
    assert len(calls) == 1
    for name, expected in alone.items():
        assert torch.equal(scores[name], expected)
    # another fit reads otherwise
    detectors["residue"].fit([images(80, 5)])
    calls.clear()
    again = pipeline.predict(x)
    assert len(calls) == 2
    assert torch.equal(again["intent"], alone["intent"])


def test_the_order_and_the_batches_of_the_data_do_not_matter(model):
    x = images(40, 6)
    one = ViyogIntent(model, sample_size=24).fit([x])
    other = ViyogIntent(model, sample_size=24).fit(x.flip(0).split(7))
    torch.testing.assert_close(one(x), other(x), rtol=1e-5, atol=1e-5)


def test_impossible_requests_are_refused(model):
    with pytest.raises(
        ValueError, match="residues must be 'auto', 'filters' or 'gradients', got 'noise'"
    ):
        ViyogIntent(model, residues="noise")
    conv = model.stem.conv
    with torch.no_grad():
        maps = model.stem(images(8, 1))
    by_gradients = ViyogIntent(None, layer=conv, residues="gradients")
    with pytest.raises(ValueError, match="by gradients need the model's inputs: use fit"):
        by_gradients.fit_features(maps)
    with pytest.raises(RequiresFittingException):
        ViyogIntent(model).predict(images(2, 1))


class Quantised(nn.Sequential):
    """Its answer is in whole numbers."""

    def forward(self, x):
        return super().forward(x).mean(dim=(2, 3)).mul(10).round().detach()


class Pair(nn.Sequential):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Quantised, "its output does not depend on the layer"),
        (Pair, "its output is tuple, no logits"),
        (nn.Sequential, r"its output is \(\d, 4, 18, 18\), no logits"),
    ],
)
def test_models_without_gradients_are_refused(network, reason):
    model = network(nn.Conv2d(3, 4, 3))
    intent = ViyogIntent(model, residues="gradients")
    with pytest.raises(RuntimeError, match=f"can be differentiated, and .* cannot: {reason}"):
        intent.fit([images(8, 1)])
    assert "fitted=False" in repr(intent)


# -- ViyogResidue that reads intent itself -----------------------------------------------------


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


def test_the_score_joins_both_readings(model, plain, reading):
    intent = ViyogIntent(model, residues="filters", sample_size=32).fit([images(32, 1)])
    x = torch.cat([images(20, 2), BenignChange("white noise", 8)(images(20, 2))])
    state = reading._require_state()
    assert torch.equal(reading(x), joined(plain(x), intent(x), state))
    assert torch.equal(reading.log_likelihoods(x), plain.log_likelihoods(x))
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


def test_a_pillow_without_webp_leaves_that_kind_out(model, monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    assert not BenignChange("WebP", 80).available
    assert BenignChange("JPEG", 80).available
    assert BenignChange("blur", 1).available
    detector = ViyogIntent(model, residues="filters", sample_size=8).fit([images(8, 1)])
    assert torch.isfinite(detector(images(30, 2))).all()
    with pytest.raises(ImportError, match="without WebP"):
        BenignChange("WebP", 80)(images(1, 1))


@pytest.mark.parametrize("progress", [True, False])
def test_the_simulation_shows_its_progress_if_asked(model, monkeypatch, progress):
    seen = []

    def bar(parts, *, disable, **_):
        seen.append(disable is None)
        return parts

    monkeypatch.setattr(conclusion, "tqdm", bar)
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


def test_maps_alone_tell_the_same_kinds_apart(model):
    with torch.no_grad():
        maps = model.stem(images(80, 1))
        intent = ViyogIntent(None, layer=model.stem.conv, sample_size=80).fit_features(maps)
        noisy = intent.predict_features(model.stem(BenignChange("white noise", 8)(images(60, 2))))
        adv = intent.predict_features(model.stem(attacked(model.stem.conv, images(60, 2))))
    assert float(viyog_metrics(noisy, adv)["AUROC"]) > 0.85


def test_an_interrupted_fit_leaves_the_old_state(model, intent, monkeypatch):
    x = images(6, 7)
    before = intent(x)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(conclusion, "simulate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        intent.fit([images(80, 8)])
    assert torch.equal(intent(x), before)


def test_state_of_intent_is_not_that_of_residue(model, intent, tmp_path):
    torch.save(intent.state_dict(), tmp_path / "intent.pt")
    state = torch.load(tmp_path / "intent.pt", weights_only=True)
    loaded = ViyogIntent(build(InPlaceStem), layer="conv")
    with pytest.raises(ValueError, match="layer"):
        loaded.load_state_dict(state)
    with pytest.raises(ValueError, match="The state is that of a ViyogIntent"):
        ViyogResidue(model).load_state_dict(state)
    again = ViyogIntent(model).load_state_dict(state)
    assert torch.equal(again(images(5, 3)), intent(images(5, 3)))
