"""The contrast of ID and ADV, and the least score of ADV."""

import pickle

import pytest
import torch
from networks import SmallNet, build
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import ViyogResidue, ViyogTV, with_score
from pytorch_ood_viyog.deploy import maps_to_scores
from pytorch_ood_viyog.detectors.residue_alarm import ResidueAlarm
from pytorch_ood_viyog.detectors.residue_outlier import ResidueOutlier
from pytorch_ood_viyog.pipeline.shared_forward import SharedForward
from pytorch_ood_viyog.residue.random_residues import smooth_signs
from pytorch_ood_viyog.residue.reader import Reader


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


@pytest.fixture(scope="module")
def residue():
    x = images(240, 0)
    loader = DataLoader(TensorDataset(x, torch.arange(240) % 5), batch_size=60)
    return ViyogResidue(build(SmallNet), input_range=1.0).fit(loader)


def test_the_score_is_the_contrast_of_the_features(residue):
    x = images(9, 1)
    state = residue._require_state()
    features = residue._input_features(x)
    expected = ((features - state["means"][0]) * state["contrast"]).sum(dim=1)
    torch.testing.assert_close(ResidueAlarm(residue).predict(x), expected)
    maps = residue.model.stem(x).detach()
    torch.testing.assert_close(
        ResidueAlarm(residue).predict_features(maps), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("eps", [2 / 255, 4 / 255, 8 / 255])
def test_residues_of_every_strength_raise_the_alarm(residue, eps):
    known, new = images(200, 2), images(200, 3)
    alarm = ResidueAlarm(residue)
    threshold = alarm.predict(known).quantile(0.95)
    assert (alarm.predict(new + eps * signs(200, 4)) > threshold).float().mean() > 0.9
    assert (alarm.predict(new) > threshold).float().mean() < 0.12


@pytest.mark.parametrize("eps", [4 / 255, 8 / 255])
def test_smooth_residues_raise_the_alarm_that_is_contrasted_with_them(residue, eps):
    known, new = images(200, 2), images(200, 3)
    smooth = new + eps * smooth_signs(signs(200, 4), 1.5)
    caught = {}
    for kind in ("white", "smooth"):
        alarm = ResidueAlarm(residue, residues=kind)
        threshold = alarm.predict(known).quantile(0.95)
        caught[kind] = float((alarm.predict(smooth) > threshold).float().mean())
        assert (alarm.predict(new) > threshold).float().mean() < 0.12
    assert caught["smooth"] > caught["white"] + 0.2


def test_the_kind_of_residues_is_known(residue):
    with pytest.raises(ValueError, match=r"one of \['white', 'smooth'\], got 'pink'"):
        ResidueAlarm(residue, residues="pink")


def test_residues_from_the_middle_strength_on_reach_the_least_adv(residue):
    x, noise = images(300, 5), signs(300, 6)
    scores = {level: residue.predict(x + level / 255 * noise) for level in (0, 2, 4, 8)}
    above = {n: float((s > residue.least_adv).float().mean()) for n, s in scores.items()}
    assert min(above[2], above[4], above[8]) > 0.95  # 99 % of the samples that it was set on
    assert above[0] < 0.2
    # the weakest of the three is at the 1 % quantile, not far above it
    assert min(above[2], above[4], above[8]) < 1


def test_least_adv_needs_a_fit_and_survives_saving(residue):
    assert ViyogResidue(None).least_adv is None
    loaded = ViyogResidue(residue.model).load_state_dict(residue.state_dict())
    assert loaded.least_adv == residue.least_adv
    x = images(5, 1)
    assert torch.equal(ResidueAlarm(loaded).predict(x), ResidueAlarm(residue).predict(x))


def test_one_strength_is_its_own_middle():
    x = images(100, 0)
    one = ViyogResidue(build(SmallNet), eps=(4 / 255,)).fit([(x, torch.zeros(100))])
    assert one.least_adv == float(one._require_state()["least"][0])


def test_a_shared_pass_reads_the_features_once(residue, monkeypatch):
    views = {"outlier": ResidueOutlier(residue), "alarm": ResidueAlarm(residue)}
    pipeline = SharedForward(residue.model, views | {"residue": residue})
    x = images(5, 1)
    alone = {name: detector.predict(x) for name, detector in pipeline.detectors.items()}
    calls, features = [], Reader.features
    monkeypatch.setattr(
        Reader, "features", lambda *arguments: calls.append(1) or features(*arguments)
    )
    scores = pipeline.predict(x)
    assert len(calls) == 1
    for name, expected in alone.items():
        assert torch.equal(scores[name], expected)
    assert not torch.equal(pipeline.predict(x + 0.1)["alarm"], scores["alarm"])


def test_only_residue_has_a_contrast():
    with pytest.raises(TypeError, match="must be a ViyogResidue, got ViyogTV"):
        ResidueAlarm(ViyogTV(None))


@pytest.mark.parametrize("view", [ResidueAlarm, ResidueOutlier])
def test_a_deployed_view_holds_no_model_and_no_id_data(view, residue):
    residue.predict(images(2, 1))
    x, seen = images(6, 1), view(residue)
    maps = residue.model.stem(x).detach()
    module = maps_to_scores(seen)
    assert torch.equal(module(maps), seen.predict_features(maps))
    _, scores = with_score(residue.model, seen)(x)
    torch.testing.assert_close(scores, seen.predict(x), rtol=1e-4, atol=1e-4)
    assert len(pickle.dumps(module)) < 1.1 * len(pickle.dumps(maps_to_scores(residue)))


def test_a_view_says_what_it_knows_from_the_detector(residue):
    x = images(100, 0)
    detector = ViyogResidue(build(SmallNet))
    alarm = ResidueAlarm(detector)
    assert "fitted=False" in repr(alarm)
    detector.fit([(x, torch.zeros(100))])
    assert "fitted=True" in repr(alarm)
    assert alarm.layer_name == detector.layer_name == "stem.conv"
    loaded = ViyogResidue(residue.model)
    alarm = ResidueAlarm(loaded)
    loaded.load_state_dict(residue.state_dict())
    assert alarm.layer_name == "stem.conv"
    maps = residue.model.stem(x).detach()
    assert torch.equal(maps_to_scores(alarm)(maps), ResidueAlarm(residue).predict_features(maps))


def test_views_in_a_pipeline_are_fitted_once_for_all_of_them(monkeypatch):
    x, fits = images(120, 0), []
    data = [(x, torch.arange(120) % 5)]
    detector = ViyogResidue(None)
    views = {"alarm": ResidueAlarm(detector), "outlier": ResidueOutlier(detector)}
    conclude = ViyogResidue._conclude
    monkeypatch.setattr(ViyogResidue, "_conclude", lambda *args: fits.append(1) or conclude(*args))
    scores = SharedForward(build(SmallNet), views).fit(data, progress=False).predict(x[:5])
    assert len(fits) == 1
    own = ViyogResidue(build(SmallNet)).fit(data)
    torch.testing.assert_close(scores["alarm"], ResidueAlarm(own).predict(x[:5]))
    torch.testing.assert_close(scores["outlier"], ResidueOutlier(own).predict(x[:5]))


def test_what_is_asked_of_a_view_is_done_by_the_detector(residue):
    x = images(90, 8)
    maps = residue.model.stem(x).detach()
    conv = residue.model.stem.conv

    def alarm():
        return ResidueAlarm(ViyogResidue(None, layer=conv, input_range=1.0))

    whole = alarm().fit_features(maps)
    parts = alarm().partial_fit_features(maps[:30]).partial_fit_features(maps[30:])
    merged = alarm().fit_features(maps[:30]).merge(alarm().fit_features(maps[30:]))
    loaded = alarm().load_state_dict(whole.state_dict())
    expected = whole.predict_features(maps[:9])
    for other in (parts, merged, loaded):
        torch.testing.assert_close(other.predict_features(maps[:9]), expected)
    with pytest.raises(TypeError, match="must be a ResidueAlarm, got ViyogResidue"):
        whole.merge(whole.residue)


def test_a_view_of_a_pipeline_deploys_with_the_pipelines_layer():
    x, model = images(120, 0), build(SmallNet)
    alarm = ResidueAlarm(ViyogResidue(None))
    pipeline = SharedForward(model, {"alarm": alarm})
    pipeline.fit([(x, torch.arange(120) % 5)], progress=False)
    expected = pipeline.predict(x[:6])["alarm"]
    maps = model.stem(x[:6]).detach()
    assert torch.equal(maps_to_scores(alarm)(maps), alarm.predict_features(maps))
    torch.testing.assert_close(with_score(model, alarm)(x[:6])[1], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"layer 'body\.2' gives 4"):
        with_score(model, alarm, layer="body.2")
