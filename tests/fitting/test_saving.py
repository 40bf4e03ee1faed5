"""Saving, loading and merging fitted detectors."""

import io
import warnings

import pytest
import torch
from networks import SmallNet, Volume, build
from pytorch_ood.api import RequiresFittingException
from torch import nn

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV


def saved_and_loaded(state):
    """The state after a trip through a file that may hold nothing but plain data."""
    file = io.BytesIO()
    torch.save(state, file)
    assert file.tell() < 2**20
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.fixture
def state(fitted):
    return fitted.state_dict()


def test_a_loaded_detector_scores_alike(make, model, fitted, images):
    loaded = make(model).load_state_dict(saved_and_loaded(fitted.state_dict()))
    assert torch.equal(loaded(images), fitted(images))
    assert loaded.layer_name == "stem.conv"
    assert "fitted=True" in repr(loaded)
    with pytest.raises(RequiresFittingException):
        make(model).state_dict()


def test_settings_are_loaded(make, model, images):
    name, values = next(iter(make(model).hyperparameter_space.items()))
    detector = make(model).set_hyperparameters(**{name: values[0]}).fit([images])
    loaded = make(model).load_state_dict(detector.state_dict())
    assert getattr(loaded, name) == values[0]
    assert torch.equal(loaded(images), detector(images))


def test_the_state_holds_no_model_and_does_not_change_with_the_detector(fitted, images):
    state = fitted.state_dict()
    assert set(state) == {"class", "version", "settings", "layer", "layout", "tensors"}
    before = {name: tensor.clone() for name, tensor in state["tensors"].items()}
    fitted.fit([3 * images])
    for name, tensor in before.items():
        assert torch.equal(state["tensors"][name], tensor)


def changed(state, **entries):
    return state | entries


def with_tensor(state, name, tensor):
    return state | {"tensors": state["tensors"] | {name: tensor}}


def first_tensor(state):
    return next(iter(state["tensors"].items()))


BROKEN = {
    "no mapping": (lambda s: [s], TypeError, "got list"),
    "another class": (lambda s: changed(s, **{"class": "KNN"}), ValueError, "that of a KNN"),
    "another version": (lambda s: changed(s, version=99), ValueError, "version 99"),
    "settings are a list": (lambda s: changed(s, settings=[]), TypeError, "must be mappings"),
    "a setting is unknown": (lambda s: changed(s, settings={"x": 1}), ValueError, "settings"),
    "layout is no pair": (lambda s: changed(s, layout=[12]), ValueError, "layout"),
    "layout holds text": (lambda s: changed(s, layout=["12", 4]), ValueError, "layout"),
    "other channels": (lambda s: changed(s, layout=[13, 4]), ValueError, "13 channels"),
    "other dimensions": (lambda s: changed(s, layout=[12, 5]), ValueError, "5 dimensions"),
    "another layer": (lambda s: changed(s, layer="body.2"), ValueError, "detector reads"),
    "no such layer": (lambda s: changed(s, layer="trunk"), ValueError, "trunk"),
    "layer is a number": (lambda s: changed(s, layer=3), TypeError, "name or None"),
    "a complex tensor": (
        lambda s: with_tensor(s, first_tensor(s)[0], first_tensor(s)[1] * 1j),
        TypeError,
        "real numbers",
    ),
    "another shape": (
        lambda s: with_tensor(s, first_tensor(s)[0], torch.zeros(3, 5, dtype=torch.float64)),
        ValueError,
        "must have the shape",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_refused(make, model, fitted, state, images, case):
    breaking, error, message = BROKEN[case]
    scores = fitted(images)
    target = make(model).fit([images[:40]])
    before = target(images)
    with pytest.raises(error, match=message):
        target.load_state_dict(breaking(state))
    assert torch.equal(target(images), before)
    assert torch.equal(fitted(images), scores)


def test_bad_settings_are_refused(model, images):
    state = ViyogTV(model).fit([images]).state_dict()
    with pytest.raises(ValueError, match=r"settings of the state.*band must be"):
        ViyogTV(model).load_state_dict(changed(state, settings=state["settings"] | {"band": 2.0}))


def test_a_state_of_another_detector_is_refused(model, images):
    state = Viyog(model).fit([images]).state_dict()
    with pytest.raises(ValueError, match="that of a Viyog, it does not fit a ViyogTV"):
        ViyogTV(model).load_state_dict(state)


def test_a_state_of_another_model_is_refused(make, state):
    with pytest.raises(ValueError, match=r"stem\.conv"):
        make(build(Volume)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"3 dimensions|12 channels and 4"):
        make(None, layer=torch.nn.Conv1d(3, 12, 3)).load_state_dict(state)


def test_a_loaded_detector_goes_on_where_its_statistics_were_saved(make, model, fitted, images):
    loaded = make(model).load_state_dict(fitted.state_dict())
    with torch.no_grad():
        maps = model.stem.conv(images)
    name, values = next(iter(loaded.hyperparameter_space.items()))
    further = {
        "partial_fit_features": lambda d: d.partial_fit_features(maps),
        "merge": lambda d: d.merge(fitted),
        "set_hyperparameters": lambda d: d.set_hyperparameters(**{name: values[-1]}),
    }
    scores = loaded(images)
    for method, use in further.items():
        if loaded._saves_statistics:
            use(make(model).load_state_dict(fitted.state_dict()))
        else:
            with pytest.raises(RuntimeError, match=rf"{method}\(\) needs the statistics.*Fit it"):
                use(loaded)
    assert torch.equal(loaded(images), scores)
    fitted_again = loaded.fit([images]).set_hyperparameters(**{name: values[-1]})
    assert getattr(fitted_again, name) == values[-1]


# -- merge -----------------------------------------------------------------------------------


def test_merge_equals_one_fit(make, model, images):
    one, other = make(model).fit([images[:40]]), make(model).fit([images[40:]])
    expected = make(model).fit([images[:40], images[40:]])(images)
    alone = other(images)
    assert one.merge(other) is one
    torch.testing.assert_close(one(images), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(other(images), alone)


def test_merge_into_an_unfitted_detector(make, model, fitted, images):
    detector = make(model, layer="stem.conv").merge(fitted)
    assert torch.equal(detector(images), fitted(images))


def test_what_merge_refuses(make, model, fitted, images):
    scores = fitted(images)
    with pytest.raises(TypeError, match="got int"):
        fitted.merge(3)
    with pytest.raises(RequiresFittingException, match="other is not fitted"):
        fitted.merge(make(model))
    name, values = next(iter(fitted.hyperparameter_space.items()))
    other = make(model).set_hyperparameters(**{name: values[0]}).fit([images])
    with pytest.raises(ValueError, match=f"same settings.*{name}"):
        fitted.merge(other)
    with pytest.raises(ValueError, match="channels and dimensions"):
        fitted.merge(make(model, layer="body.2").fit([images]))
    assert torch.equal(fitted(images), scores)


@pytest.mark.parametrize(
    ("conv", "size", "largest"),
    [(nn.Conv2d(3, 64, 3, padding=1), 32, 250_000), (nn.Conv2d(3, 768, 16, 16), 224, 2_000_000)],
    ids=["3x3", "patches"],
)
def test_saved_states_are_as_small_as_readme_says(conv, size, largest):
    model, x = nn.Sequential(conv).eval(), torch.rand(64, 3, size, size)

    def saved_bytes(kind):
        file = io.BytesIO()
        torch.save(kind(model).fit([x], progress=False).state_dict(), file)
        return len(file.getvalue())

    assert 100_000 < saved_bytes(ViyogResidue) < largest
    assert saved_bytes(Viyog) < 3_000
    assert saved_bytes(ViyogTV) < 10_000


class Standardised(nn.Conv2d):
    """What it does its weights alone do not tell."""

    def forward(self, x):
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias)


def test_a_state_of_other_weights_is_said(images):
    images = torch.nn.functional.interpolate(images, 24)
    fitted = ViyogResidue(build(SmallNet)).fit([images])
    state, same, other = fitted.state_dict(), build(SmallNet), build(SmallNet)
    with torch.no_grad():
        other.stem.conv.weight += 0.1 * other.stem.conv.weight.roll(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ViyogResidue(same).load_state_dict(state)
        ViyogResidue(build(SmallNet).bfloat16()).load_state_dict(state)
        ViyogResidue(None).load_state_dict(state)
        standardised = nn.Sequential(Standardised(3, 12, 3), nn.Flatten(), nn.LazyLinear(3))
        standardised(images)
        own = ViyogResidue(standardised).fit([images]).state_dict()
        ViyogResidue(standardised).load_state_dict(own)
    with pytest.warns(UserWarning, match="fitted with other weights than those of layer"):
        ViyogResidue(other).load_state_dict(state)


@pytest.mark.parametrize("groups", [1, 3])
def test_weights_are_compared_by_what_they_do_and_left_as_found(groups, images):
    images = nn.functional.interpolate(images, 24)
    conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 12, 3, groups=groups))
    state = ViyogResidue(nn.Sequential(conv)).fit([images]).state_dict()
    detector = ViyogResidue(nn.Sequential(conv).train(), layer="0")
    before = {name: tensor.clone() for name, tensor in conv.state_dict().items()}
    detector.load_state_dict(state)
    assert all(torch.equal(before[name], now) for name, now in conv.state_dict().items())
    with torch.no_grad():
        conv.parametrizations.weight.original[0] *= -1
    with pytest.warns(UserWarning, match="fitted with other weights than those of layer"):
        detector.load_state_dict(state)
