"""ViyogIntent: attacks above benign changes, one reading for all, and what cannot be asked."""

import pytest
import torch
from networks import InPlaceStem, SmallNet, build
from pytorch_ood.api import ModelNotSetException, RequiresFittingException
from smooth_images import images
from torch import nn

from pytorch_ood_viyog import SharedForward, ViyogResidue, viyog_metrics
from pytorch_ood_viyog.detectors import ResidueView, ViyogIntent
from pytorch_ood_viyog.detectors.readings import intent_readings
from pytorch_ood_viyog.images import BenignChange
from pytorch_ood_viyog.layer.linear.effective_convolution import EffectiveConvolution
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


def test_maps_alone_tell_the_same_kinds_apart(model):
    with torch.no_grad():
        maps = model.stem(images(80, 1))
        intent = ViyogIntent(None, layer=model.stem.conv, sample_size=80).fit_features(maps)
        noisy = intent.predict_features(model.stem(BenignChange("white noise", 8)(images(60, 2))))
        adv = intent.predict_features(model.stem(attacked(model.stem.conv, images(60, 2))))
    assert float(viyog_metrics(noisy, adv)["AUROC"]) > 0.85


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
    calls, features = [], Reader.features
    monkeypatch.setattr(Reader, "features", lambda *args: calls.append(1) or features(*args))
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


def test_benign_scores_are_those_of_changed_inputs(model, intent):
    x = images(60, 4)
    scores = intent.benign_scores(x)
    assert torch.equal(scores, intent.benign_scores(x))
    assert not torch.equal(scores, intent.benign_scores(x, seed=1))
    adv = intent(attacked(model.stem.conv, x))
    assert float(viyog_metrics(scores, adv)["AUROC"]) > 0.85


def test_the_four_way_reading_shares_residues_between_attacks_and_noise(model, intent):
    x = images(30, 4)
    residue = ViyogResidue(model, sample_size=80).fit([images(80, 1)])
    for changed in (x, BenignChange("white noise", 8)(x), attacked(model.stem.conv, x)):
        four = intent.log_likelihoods(changed)
        assert four.shape == (30, 4)
        both = four[:, 2:].logsumexp(dim=1, keepdim=True)
        three = residue.log_likelihoods(changed)
        torch.testing.assert_close(torch.cat([four[:, :2], both], dim=1), three)
        ratio = (four[:, 2] - four[:, 3]) / intent._require_state()["unit"]
        torch.testing.assert_close(ratio, intent(changed))
    maps = model.stem(x).detach()
    torch.testing.assert_close(
        intent.log_likelihoods_features(maps), intent.log_likelihoods(x), rtol=1e-3, atol=5e-2
    )


def test_benign_changes_of_other_ranges_are_refused(intent):
    with pytest.raises(ValueError, match="need inputs in the range that was read at fit"):
        intent.benign_scores(255 * images(4, 4))


def test_the_order_and_the_batches_of_the_data_do_not_matter(model):
    x = images(40, 6)
    one = ViyogIntent(model, sample_size=24).fit([x])
    other = ViyogIntent(model, sample_size=24).fit(x.flip(0).split(7))
    torch.testing.assert_close(one(x), other(x), rtol=1e-5, atol=1e-5)


def test_an_interrupted_fit_leaves_the_old_state(model, intent, monkeypatch):
    x = images(6, 7)
    before = intent(x)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(intent_readings, "simulate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        intent.fit([images(80, 8)])
    assert torch.equal(intent(x), before)


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
    with pytest.raises(RequiresFittingException):
        ViyogIntent(model).benign_scores(images(2, 1))
    bare = ViyogIntent(None, layer=conv, sample_size=8).fit_features(maps)
    with pytest.raises(ModelNotSetException):
        bare.benign_scores(images(2, 1))


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
    assert torch.equal(again.benign_scores(images(5, 3)), intent.benign_scores(images(5, 3)))
