"""Other readings of a ViyogResidue, and the least score of ADV."""

import pickle

import pytest
import torch
from networks import SmallNet, build
from pytorch_ood.api import RequiresFittingException
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import SharedForward, ViyogResidue, ViyogTV, with_score
from pytorch_ood_viyog.deploy import maps_to_scores
from pytorch_ood_viyog.detectors import ResidueView
from pytorch_ood_viyog.residue.random_residues import smooth_signs

READINGS = ["alarm", "smooth alarm", "noise floor", "outlier"]


def images(count, seed):
    """Smooth images that differ much in their contrast, as photographs do."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, 18, 18, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(x, 3, 1)
    strength = 10 ** (-2 * torch.rand(count, 1, 1, 1, generator=generator))
    return 0.5 + strength * (smooth - 0.5)


def signs(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randint(0, 2, (count, 3, 16, 16), generator=generator) - 1


def loader(count):
    return DataLoader(TensorDataset(images(count, 0), torch.arange(count) % 5), batch_size=60)


@pytest.fixture(scope="module")
def residue():
    return ViyogResidue(build(SmallNet), input_range=1.0).fit(loader(240))


@pytest.fixture(scope="module")
def views(residue):
    return {reading: ResidueView(residue, reading=reading) for reading in READINGS}


def test_scores_are_readings_of_the_features(residue, views):
    x, state = images(9, 1), residue._require_state()
    expected = {
        reading: ((residue.readings(x) - state["means"][0]) * state[contrast]).sum(dim=1)
        for reading, contrast in (("alarm", "contrast"), ("smooth alarm", "smooth_contrast"))
    }
    expected["noise floor"] = residue.noise_floor(x)
    expected["outlier"] = -residue.log_likelihoods(x)[:, 0]
    maps = residue.model.stem(x).detach()
    for reading, view in views.items():
        torch.testing.assert_close(view(x), expected[reading])
        # maps are float32: their rounding is amplified in the quiet directions
        torch.testing.assert_close(
            view.predict_features(maps), expected[reading], rtol=1e-3, atol=1e-3
        )


def test_residues_of_every_strength_raise_the_alarm(views):
    known, new, alarm = images(200, 2), images(200, 3), views["alarm"]
    threshold = alarm(known).quantile(0.95)
    assert (alarm(new) > threshold).float().mean() < 0.12
    for eps in (2 / 255, 4 / 255, 8 / 255):
        assert (alarm(new + eps * signs(200, 4)) > threshold).float().mean() > 0.9


@pytest.mark.parametrize("eps", [4 / 255, 8 / 255])
def test_smooth_residues_raise_the_alarm_that_is_contrasted_with_them(views, eps):
    known, new = images(200, 2), images(200, 3)
    smooth = new + eps * smooth_signs(signs(200, 4), 1.5)
    caught = {}
    for reading in ("alarm", "smooth alarm"):
        threshold = views[reading](known).quantile(0.95)
        caught[reading] = float((views[reading](smooth) > threshold).float().mean())
        assert (views[reading](new) > threshold).float().mean() < 0.12
    assert caught["smooth alarm"] > caught["alarm"] + 0.2


def test_noise_is_an_outlier_and_has_a_floor(views):
    x = images(40, 1)
    noise = torch.rand(40, 3, 16, 16)
    assert views["outlier"](noise).min() > views["outlier"](x).max()
    noisy = x + 4 / 255 * torch.randn_like(x)
    assert (views["noise floor"](noisy) > views["noise floor"](x)).float().mean() > 0.9


def test_bad_arguments(residue):
    with pytest.raises(ValueError, match=r"one of \['alarm', .*'outlier'\], got 'pink'"):
        ResidueView(residue, reading="pink")
    with pytest.raises(TypeError, match="must be a ViyogResidue, got ViyogTV"):
        ResidueView(ViyogTV(None))


# -- the least score of ADV ----------------------------------------------------------------------


def test_residues_from_the_middle_strength_on_reach_the_least_adv(residue):
    x, noise = images(300, 5), signs(300, 6)
    scores = {level: residue.predict(x + level / 255 * noise) for level in (0, 2, 4, 8)}
    above = {n: float((s > residue.least_adv).float().mean()) for n, s in scores.items()}
    assert min(above[2], above[4], above[8]) > 0.95  # 99 % of the samples that it was set on
    assert above[0] < 0.2
    # the weakest of the three is at the 1 % quantile, not far above it
    assert min(above[2], above[4], above[8]) < 1


def test_least_adv_needs_a_fit_and_survives_saving(residue, views):
    assert ViyogResidue(None).least_adv is None
    loaded = ViyogResidue(residue.model).load_state_dict(residue.state_dict())
    assert loaded.least_adv == residue.least_adv
    x = images(5, 1)
    assert torch.equal(ResidueView(loaded)(x), views["alarm"](x))


def test_one_strength_is_its_own_middle():
    one = ViyogResidue(build(SmallNet), eps=(4 / 255,)).fit(loader(100))
    assert one.least_adv == float(one._require_state()["least"][0])


# -- with the other detector ---------------------------------------------------------------------


@pytest.mark.parametrize("reading", READINGS)
def test_a_deployed_view_holds_no_model_and_no_id_data(reading, residue, views):
    residue.predict(images(2, 1))
    x, seen = images(6, 1), views[reading]
    maps = residue.model.stem(x).detach()
    module = maps_to_scores(seen)
    assert torch.equal(module(maps), seen.predict_features(maps))
    _, scores = with_score(residue.model, seen)(x)
    torch.testing.assert_close(scores, seen.predict(x), rtol=1e-4, atol=1e-4)
    assert len(pickle.dumps(module)) < 1.1 * len(pickle.dumps(maps_to_scores(residue)))


def test_a_view_says_what_it_knows_from_the_detector(residue, views):
    detector = ViyogResidue(build(SmallNet))
    alarm = ResidueView(detector)
    assert "reading='alarm', fitted=False" in repr(alarm)
    detector.fit(loader(100))
    assert "fitted=True" in repr(alarm)
    assert alarm.layer_name == detector.layer_name == "stem.conv"
    loaded = ViyogResidue(residue.model)
    alarm = ResidueView(loaded)
    loaded.load_state_dict(residue.state_dict())
    assert alarm.layer_name == "stem.conv"
    maps = residue.model.stem(images(9, 0)).detach()
    assert torch.equal(maps_to_scores(alarm)(maps), views["alarm"].predict_features(maps))


def test_views_in_a_pipeline_are_fitted_once_for_all_of_them(monkeypatch):
    fits, detector = [], ViyogResidue(None)
    views = {"alarm": ResidueView(detector), "outlier": ResidueView(detector, reading="outlier")}
    conclude, x, model = ViyogResidue._conclude, images(5, 0), build(SmallNet)
    monkeypatch.setattr(ViyogResidue, "_conclude", lambda *args: fits.append(1) or conclude(*args))
    pipeline = SharedForward(model, views)
    with pytest.raises(RequiresFittingException, match="'alarm'"):
        pipeline.predict(x)
    scores = pipeline.fit(loader(120), progress=False).predict(x)
    assert len(fits) == 1
    own = ViyogResidue(build(SmallNet)).fit(loader(120))
    torch.testing.assert_close(scores["alarm"], ResidueView(own).predict(x))
    torch.testing.assert_close(scores["outlier"], -own.log_likelihoods(x)[:, 0])
    # and is deployed with the pipeline's layer
    alarm = views["alarm"]
    maps = model.stem(x).detach()
    assert torch.equal(maps_to_scores(alarm)(maps), alarm.predict_features(maps))
    deployed = with_score(model, alarm)(x)[1]
    torch.testing.assert_close(deployed, scores["alarm"], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"layer 'body\.2' gives 4"):
        with_score(model, alarm, layer="body.2")


def test_what_is_asked_of_a_view_is_done_by_the_detector(residue):
    maps, conv = residue.model.stem(images(90, 8)).detach(), residue.model.stem.conv

    def alarm():
        return ResidueView(ViyogResidue(None, layer=conv, input_range=1.0))

    whole = alarm().fit_features(maps)
    parts = alarm().partial_fit_features(maps[:30]).partial_fit_features(maps[30:])
    merged = alarm().fit_features(maps[:30]).merge(alarm().fit_features(maps[30:]))
    loaded = alarm().load_state_dict(whole.state_dict())
    expected = whole.predict_features(maps[:9])
    for other in (parts, merged, loaded):
        torch.testing.assert_close(other.predict_features(maps[:9]), expected)
    with pytest.raises(TypeError, match="must be a ResidueView, got ViyogResidue"):
        whole.merge(whole.residue)
    by_inputs = ResidueView(ViyogResidue(build(SmallNet))).fit(loader(100))
    assert torch.equal(by_inputs(images(5, 1)), ResidueView(by_inputs.residue)(images(5, 1)))
