"""Stems of several convolutions that take the same tensor."""

import pickle

import pytest
import torch
from manners import untouched
from networks import SmallNet, UsedTwice, build
from stems import TwoBranches
from torch import nn

from pytorch_ood_viyog import SharedForward, Viyog, ViyogResidue, ViyogTV, with_score
from pytorch_ood_viyog.deploy import maps_to_scores
from pytorch_ood_viyog.layer.finding import Branches, find_layer
from pytorch_ood_viyog.layer.first_layer import FirstLayer

BOTH = "narrow + wide"


@pytest.fixture
def model():
    return build(TwoBranches)


def images(count: int, size: int = 16) -> torch.Tensor:
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return nn.functional.avg_pool2d(noise, 3, stride=1, padding=1, count_include_pad=False)


def test_convolutions_that_take_the_same_tensor_are_one_layer(model):
    first_layer, x = FirstLayer(model), images(4)
    with untouched(model):
        maps = first_layer.run(x, lambda call: call.maps())
    assert first_layer.name == BOTH
    expected = torch.cat([model.narrow(x), model.wide(x)], dim=1)
    assert torch.equal(maps, expected.detach())
    assert isinstance(first_layer.layer(), Branches)


@pytest.mark.parametrize(
    ("network", "arguments", "name"),
    [
        (TwoBranches, (2,), "wide"),  # maps of two sizes: the one that sees most
        (TwoBranches, (1, True), "narrow"),  # changed in place: another tensor
        (SmallNet, (), "stem.conv"),
        (UsedTwice, (), "conv"),
    ],
)
def test_otherwise_one_layer_is_read(network, arguments, name):
    first_layer = FirstLayer(build(network, *arguments))
    first_layer.find(images(2))
    assert first_layer.name == name


def test_a_model_that_fails_after_its_stem_is_read_nonetheless(model):
    model.body = nn.Conv2d(99, 3, 3)
    first_layer = FirstLayer(model)
    with untouched(model):
        first_layer.find(images(2))
    assert first_layer.name == BOTH


@pytest.mark.parametrize("detector_class", [Viyog, ViyogTV, ViyogResidue])
def test_detectors_of_branches(model, detector_class):
    x = images(40)
    detector = detector_class(model)
    with untouched(model):
        scores = detector.fit([x], progress=False)(x)
    assert detector.layer_name == BOTH
    close = {"rtol": 1e-3, "atol": 1e-3}
    maps = torch.cat([model.narrow(x), model.wide(x)], dim=1).detach()
    torch.testing.assert_close(detector.predict_features(maps), scores, **close)

    loaded = detector_class(model).load_state_dict(detector.state_dict())
    assert torch.equal(loaded(x), scores)
    assert torch.equal(pickle.loads(pickle.dumps(detector))(x), scores)

    scored = with_score(model, detector)
    output, deployed = scored(x)
    assert torch.equal(output, model(x))
    torch.testing.assert_close(deployed, scores, **close)
    torch.testing.assert_close(maps_to_scores(detector)(maps), scores, **close)

    shared = SharedForward(model, {"own": detector_class(None)}).fit([x], progress=False)
    torch.testing.assert_close(shared.predict(x)["own"], scores, **close)
    assert shared["own"].layer.name == BOTH


def test_exported_branches(model):  # by a newer torch than detectors need
    x = images(40)
    detector = ViyogResidue(model).fit([x], progress=False)
    exported = torch.export.export(with_score(model, detector), (x[:4],)).module()
    torch.testing.assert_close(exported(x[:4])[1], detector(x[:4]), rtol=1e-3, atol=1e-3)


def test_branches_are_found_by_their_names(model):
    assert find_layer(model, "module.narrow + module.wide") == BOTH
    with pytest.raises(ValueError, match="does not contain a layer named 'thin'"):
        find_layer(model, "narrow + thin")
    alone = ViyogResidue(model, layer="wide").fit([images(40)], progress=False)
    assert alone.layer_name == "wide"
