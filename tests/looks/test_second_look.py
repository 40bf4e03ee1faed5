"""SecondLook: what it chooses, compares and refuses."""

import copy
import functools

import pytest
import torch
from attacked import attacked, id_batches, id_images, trained
from manners import untouched
from networks import build
from pytorch_ood.api import ModelNotSetException, RequiresFittingException
from stems import TwoBranches
from torch import nn
from wrapped import Normalised, Packed

from pytorch_ood_viyog import SecondLook, SharedForward, ViyogResidue, ViyogTV
from pytorch_ood_viyog.layer import FirstLayer
from pytorch_ood_viyog.looks import PURIFIERS, PurifierError
from pytorch_ood_viyog.looks import choice as choice_module

pytestmark = pytest.mark.filterwarnings("ignore:.*of the ID answers change")
MODEL = trained()
X, _ = id_images(1, 1)
FEW = id_batches(copies=2)
ADV = attacked(MODEL, X)


@functools.cache
def residue():
    """Fitted once for all tests that look at something else."""
    return ViyogResidue(MODEL).fit(FEW)


@pytest.fixture(scope="module")
def look():
    return SecondLook(MODEL, purifier="maps", strength=8 / 255).fit(FEW)


def test_comparison_is_consistent(look):
    found = look.compare(ADV)
    with torch.no_grad():
        assert torch.equal(found.first, MODEL(ADV))
    wanted = torch.where(found.overruled[:, None], found.second, found.first)
    assert torch.equal(look.answer(ADV), wanted)
    assert bool((found.changed | ~found.overruled).all())
    assert torch.equal(found.scores, look(ADV))
    assert torch.equal(found.changed, found.first.argmax(1) != found.second.argmax(1))
    assert bool(((found.p_value > 0) & (found.p_value <= 1)).all())
    assert len(str(found).splitlines()) == len(ADV) + 1


def test_the_strength_follows_the_noise_floor():
    known = residue()
    look = SecondLook(MODEL, purifier="maps", strength=2 / 255, follow=0.5, residue=known)
    found = look.fit(FEW).compare(ADV)
    # the floor at the layer: noise_floor() itself is NaN, as this net's filters are random
    floors = FirstLayer(MODEL).run(ADV, known.noise_floor_at)
    assert torch.allclose(found.strength, 2 / 255 + 0.5 * floors)
    assert look._fitted.residue is known


def test_an_unfitted_residue_is_fitted_along():
    along = ViyogResidue(MODEL)
    SecondLook(MODEL, purifier="maps", residue=along).fit(FEW)
    assert torch.equal(along(X), residue()(X))


def test_maps_are_purified_inside_the_model(look):
    """The same by hand: maps without their small responses, and the rest of the model."""
    found = look.compare(X)
    state = look._fitted.residue._require_state()
    conv = MODEL.stem[0]
    with torch.no_grad():
        maps = conv(X).double()
        centred = maps - state["mean"].view(1, -1, 1, 1)
        responses = torch.einsum("mc,bchw->bmhw", state["local"], centred)
        share = (3.5 - responses.abs() / found.strength.view(-1, 1, 1, 1)).clamp(0, 1)
        flat = (conv.weight.double() * state["scale"].view(1, -1, 1, 1)).flatten(1)
        back = torch.einsum("cd,md->mc", flat @ flat.T, state["local"])
        change = torch.einsum("mc,bmhw->bchw", back, responses * share)
        rest = MODEL.stem[2](MODEL.stem[1]((maps - change).float()))
        wanted = MODEL.forward_feature_maps(MODEL.body(rest))
    assert torch.allclose(found.second, wanted, atol=1e-4)


@pytest.mark.parametrize("name", PURIFIERS)
def test_every_purifier_looks_twice(name):
    look = SecondLook(MODEL, purifier=name, residue=residue()).fit(FEW)
    assert look.choice.purifier == name
    assert look(X).shape == (len(X),)
    assert bool(look(X).isfinite().all())


def test_a_function_purifies():
    look = SecondLook(MODEL, purifier=lambda x: x.mean(dim=(2, 3), keepdim=True).expand_as(x))
    with torch.no_grad():
        wanted = MODEL(X.mean(dim=(2, 3), keepdim=True).expand_as(X))
    assert torch.allclose(look.fit(FEW).compare(X).second, wanted, atol=1e-6)


# -- the choice --------------------------------------------------------------------------------


def clear_flips(look, x):
    """The share of answers that change clearly, by hand."""
    found = look.compare(x)
    return float((found.changed & (found.distance > 1)).double().mean())


def test_auto_takes_the_strongest_purifier_that_id_answers_survive():
    images, _ = id_images()
    look = SecondLook(MODEL, max_flips=0.05, sample_size=96).fit([images[:96]])
    choice, strengths = look.choice, choice_module.STRENGTHS
    assert choice.purifier == "nlm"
    assert clear_flips(look, images[:96]) / 2 <= choice.flips <= look.max_flips
    for stronger in strengths[: strengths.index(choice.strength)]:
        how = {"strength": stronger, "max_flips": 0.05, "residue": look._fitted.residue}
        other = SecondLook(MODEL, purifier="nlm", **how)
        assert other.fit([images[:96]]).choice.flips > look.max_flips


def test_auto_goes_on_to_a_purifier_that_id_answers_survive(monkeypatch):
    shares = iter([0.5] * len(choice_module.STRENGTHS) + [0.3, 0.01])
    monkeypatch.setattr(choice_module, "_flips", lambda *_: next(shares))
    choice = SecondLook(MODEL, residue=residue()).fit(FEW).choice
    assert (choice.purifier, choice.strength) == ("jpeg", choice_module.STRENGTHS[1])


def test_auto_takes_what_is_left_where_inputs_are_no_images():
    model = nn.Sequential(nn.Conv1d(1, 6, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    assert SecondLook(model).fit([torch.randn(80, 1, 48)]).choice.purifier == "maps"


def test_maps_of_several_branches_are_refused():
    model = build(TwoBranches)
    look = SecondLook(model, purifier="maps")
    with pytest.raises(TypeError, match=r"has several branches, 'narrow \+ wide'"):
        look.fit([torch.rand(70, 3, 16, 16)])


def test_too_many_flips_are_told():
    look = SecondLook(MODEL, purifier=lambda x: 1 - x, residue=residue())
    with pytest.warns(UserWarning, match=r"more than max_flips=2.0%"):
        look.fit(FEW)


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setattr(choice_module.importlib.util, "find_spec", lambda name: None)
    look = SecondLook(MODEL, purifier="auto", residue=residue())
    with pytest.warns(UserWarning, match=r"\['nlm', 'jpeg'\] are not"):
        look.fit(FEW)
    assert look.choice.purifier == "maps"


# -- calibration -------------------------------------------------------------------------------


def test_calibration_changes_p_values_and_no_score(look):
    twin = copy.deepcopy(look)
    twin.calibrate(id_batches(seed=3), progress=False)
    one, other = twin.compare(ADV), look.compare(ADV)
    assert torch.equal(one.scores, other.scores)
    assert not torch.equal(one.p_value, other.p_value)
    held, _ = id_images(3)
    p_values = twin.compare(held).p_value
    assert 0.02 < float((p_values <= 0.05).double().mean()) < 0.08


def test_calibration_needs_id_samples(look):
    twin = copy.deepcopy(look)
    with pytest.raises(ValueError, match="no ID samples"):
        twin.calibrate([(X, torch.full((len(X),), -1))])
    assert torch.equal(twin.compare(X).p_value, look.compare(X).p_value)
    with pytest.raises(RequiresFittingException):
        SecondLook(MODEL).calibrate(id_batches())


# -- state -------------------------------------------------------------------------------------


def test_older_states_hold_more_and_broken_ones_less(look):
    state = look.state_dict()
    older = state | {"known": state["known"] | {"distance": torch.ones(3)}}
    other = SecondLook(MODEL).load_state_dict(older)
    assert torch.equal(other(X), look(X))
    assert "chosen='maps' at 8/255" in repr(other)
    with pytest.raises(ValueError, match=r"must be that of a SecondLook.*of class 'Other'"):
        other.load_state_dict(state | {"class": "Other"})
    with pytest.raises(ValueError, match=r"not whole, or of another version.* again"):
        other.load_state_dict(state | {"known": {}})
    assert torch.equal(other(X), look(X))


def test_a_function_has_no_plain_state():
    look = SecondLook(MODEL, purifier=torch.round, residue=residue()).fit(FEW)
    with pytest.raises(TypeError, match="whose purifier is a function"):
        look.state_dict()


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"purifier": "blur"}, ValueError, "purifier must be 'auto', one of"),
        ({"strength": 2.0}, ValueError, "strength must be finite"),
        ({"follow": -1.0}, ValueError, "follow must be finite"),
        ({"max_flips": "few"}, TypeError, "max_flips must be a number"),
        ({"residue": ViyogTV(None)}, TypeError, "residue must be a ViyogResidue, got ViyogTV"),
        ({"logits": 3}, TypeError, "logits must be callable"),
        ({"sample_size": 1}, ValueError, "sample_size must be at least 2"),
    ],
)
def test_arguments_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        SecondLook(MODEL, **options)


def test_before_fitting_and_without_model(look):
    with pytest.raises(RequiresFittingException):
        SecondLook(MODEL).predict(X)
    with pytest.raises(ModelNotSetException, match="a second answer needs one"):
        SecondLook(None).fit(FEW)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module or None, got str"):
        SecondLook("model")
    with pytest.raises(ValueError, match=r"\(B, C\) with B = 2, got \(3, 4\)"):
        look.predict_given(X[:2], torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("purifier", "message"),
    [
        (lambda x: x[..., :-1], r"same shape \(48, 3, 8, 8\), got \(48, 3, 8, 7\)"),
        (lambda x: None, r"got NoneType"),
        (lambda x: x * torch.nan, r"purifier's output.*must be finite"),
    ],
)
def test_a_purifier_that_fails_does_not_lose_the_first_answer(purifier, message):
    good = [True]
    either = lambda x: x if good[0] else purifier(x)  # noqa: E731
    look = SecondLook(MODEL, purifier=either, residue=residue())
    look.fit(FEW)
    good[0] = False
    with untouched(MODEL), pytest.raises(PurifierError, match=message) as caught:
        look.predict(X)
    with torch.no_grad():
        assert torch.equal(caught.value.first, MODEL(X))


def test_jpeg_names_inputs_outside_of_the_range():
    options = {"purifier": "jpeg", "pixel_range": (0.0, 1.0), "residue": residue()}
    look = SecondLook(MODEL, **options).fit(FEW)
    message = r"JPEG holds values.*lie between \S+ and \S+.*pixel_range=\(black, white\)"
    with pytest.raises(PurifierError, match=message) as caught:
        look.predict(3 * X)
    with torch.no_grad():
        assert torch.equal(caught.value.first, MODEL(3 * X)), "the first answer is not lost"


def test_normalised_inputs_get_the_scores_of_images():
    plain = SecondLook(MODEL, purifier="nlm", strength=4 / 255, pixel_range=(0.0, 1.0))
    other = SecondLook(
        Normalised(trained()), purifier="nlm", strength=4 / 255, pixel_range=(-2.0, 2.0)
    )
    plain.fit(FEW)
    other.fit([(4 * x - 2, y) for x, y in FEW])
    one, two = plain.compare(X).second, other.compare(4 * X - 2).second
    assert torch.allclose(one, two, atol=2e-2)


# -- pipelines ---------------------------------------------------------------------------------


def test_a_pipeline_gives_model_first_answer_and_noise_floor():
    detectors = {
        "residue": ViyogResidue(None),
        "look": SecondLook(None, purifier="maps", strength=8 / 255),
    }
    pipeline = SharedForward(MODEL, detectors).fit(FEW)
    passes = []
    handle = MODEL.fc.register_forward_hook(lambda layer, args, output: passes.append(len(output)))
    found = pipeline.predict(ADV)
    handle.remove()
    assert passes == [len(ADV), len(ADV)]  # the first answer costs nothing more
    alone = SecondLook(MODEL, purifier="maps", strength=8 / 255).fit(FEW)
    assert torch.allclose(found["look"], alone(ADV), atol=1e-6)
    assert detectors["look"].residue is detectors["residue"]


# -- the way between attacker and model ----------------------------------------------------------


def test_what_is_chosen_is_chosen_behind_the_way():
    """A fit with ``through`` is a fit to what comes out of it, noise included."""
    calls = []

    def darker(images):
        calls.append(len(images))
        return (images * 255 / 2).floor() / 255

    look = SecondLook(MODEL, purifier="maps", strength=4 / 255, through=darker).fit(FEW)
    behind = look._fitted.residue
    assert behind.through is darker
    assert calls
    by_residue = SecondLook(MODEL, purifier="maps", strength=4 / 255, residue=behind)
    assert torch.equal(by_residue.fit(FEW)(X), look(X))


def test_models_that_return_more_than_logits():
    pair = Packed(MODEL, lambda z: {"z": z, "more": z})
    look = SecondLook(pair, purifier="maps", strength=8 / 255, logits=lambda o: o["z"])
    wanted = SecondLook(MODEL, purifier="maps", strength=8 / 255).fit(FEW)(X)
    assert torch.allclose(look.fit(FEW)(X), wanted, atol=1e-6)
