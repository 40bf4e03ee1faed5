"""Verdicts by rule, false alarms as promised, state that survives."""

import math
import re
import warnings
from dataclasses import replace

import pytest
import torch
from manners import untouched
from networks import SmallNet, build
from pytorch_ood.api import RequiresFittingException
from pytorch_ood.detector import KNN, ODIN, EnergyBased, KLMatching, Mahalanobis, MaxSoftmax
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.fitting.held_out import HeldOut
from pytorch_ood_viyog.triage.calibration import FUSED, Calibration, fused_score
from pytorch_ood_viyog.triage.lda import TriageLDA
from pytorch_ood_viyog.triage.triage import Triage
from pytorch_ood_viyog.triage.verdict import Verdict


def draw(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, 10, 10, generator=generator)
    return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1), torch.arange(count) % 5


def batches(count, seed, size=50):
    return DataLoader(TensorDataset(*draw(count, seed)), batch_size=size)


@pytest.fixture(scope="module")
def triage(network):
    gates = {"energy": EnergyBased(None), "maha": Mahalanobis(None)}
    return Triage(gates, ViyogTV(network), id_fpr=0.1).fit(batches(200, 1), batches(300, 2))


# -- the rule --------------------------------------------------------------------------------


def test_the_router_decides_what_the_gate_lets_in(triage):
    rough = torch.rand(40, 3, 10, 10, generator=torch.Generator().manual_seed(5))
    x = torch.cat([draw(60, 3)[0], 6 * draw(40, 4)[0], rough])
    explained = triage.explain(x)
    limits = triage.calibration.thresholds
    assert set(limits) == {FUSED, "ViyogTV"}
    for i, verdict in enumerate(triage.predict(x).tolist()):
        if explained.scores["ViyogTV"][i] > limits["ViyogTV"]:
            expected = Verdict.ADV
        elif explained.scores[FUSED][i] > limits[FUSED]:
            expected = Verdict.OOD
        else:
            expected = Verdict.ID
        assert verdict == expected
    assert set(explained.verdicts.tolist()) == {0, 1, -1}


def by_hand(explained, gate, alarm):
    """The rule for a router that knows the least score of a residue, sample by sample."""
    limits, scores, required = explained.thresholds, explained.scores, explained.required
    for i in range(len(explained.verdicts)):
        if all(scores[name][i] <= limits[name] for name in (gate, alarm)):
            yield Verdict.ID
        elif "ViyogIntent" in required and scores["ViyogIntent"][i] > required["ViyogIntent"]:
            yield Verdict.ADV
        elif scores["ViyogResidue"][i] > required["ViyogResidue"]:
            yield Verdict.NOISY if "ViyogIntent" in required else Verdict.ADV
        else:
            yield Verdict.OOD


def test_a_residue_router_raises_alarms_by_contrast_and_decides_by_its_least_score(network):
    router = ViyogResidue(network, input_range=1.0)
    triage = Triage(None, router, id_fpr=0.1, intent=False)
    triage.fit(batches(200, 1), batches(300, 2))
    x = draw(200, 3)[0]
    generator = torch.Generator().manual_seed(5)
    attacked = x + 8 / 255 * (2 * torch.randint(0, 2, x.shape, generator=generator) - 1)
    mixed = torch.cat([x, attacked, 6 * x[:40], torch.rand(40, 3, 10, 10, generator=generator)])
    explained = triage.explain(mixed)
    assert set(explained.thresholds) == {"EnergyBased", "ResidueAlarm"}
    assert explained.required == {"ViyogResidue": router.least_adv}
    expected = list(by_hand(explained, "EnergyBased", "ResidueAlarm"))
    assert explained.verdicts.tolist() == expected
    assert (explained.verdicts[:200] != Verdict.ID).float().mean() < 0.2
    assert (explained.verdicts[200:400] == Verdict.ADV).float().mean() > 0.9
    assert (explained.verdicts[400:] == Verdict.OOD).float().mean() > 0.9
    line = str(explained).splitlines()[250]
    assert re.search(rf"ViyogResidue \S+ > {router.least_adv:.4g} \(p=", line)
    assert f"ViyogResidue above {router.least_adv:.4g}" in repr(triage)


def test_verdicts_by_hand():
    calibration = Calibration({"gate": 1.0, "alarm": 2.0}, {}, {})
    scores = {
        "gate": torch.tensor([0.0, 9.0, 0.0, 9.0, 0.0, 1.0]),
        "alarm": torch.tensor([0.0, 0.0, 9.0, 0.0, 9.0, 2.0]),
        "router": torch.tensor([9.0, 9.0, 9.0, 5.0, 5.0, 9.0]),
    }
    assert calibration.verdicts(scores, "alarm").tolist() == [0, 1, -1, 1, -1, 0]
    assert calibration.verdicts(scores, "router", 5.0).tolist() == [0, -1, -1, 1, 1, 0]
    scores["intent"] = torch.tensor([9.0, 9.0, 1.0, 9.0, 1.0, 9.0])
    with_intent = replace(calibration, least_intent=3.0)
    verdicts = with_intent.verdicts(scores, "router", 5.0, "intent").tolist()
    assert verdicts == [0, -1, Verdict.NOISY, -1, 1, 0]
    assert with_intent.verdicts(scores, "router", 5.0).tolist() == [0, -1, -1, 1, 1, 0]


def test_explanation_shows_every_detector(triage):
    x = draw(4, 3)[0]
    explained = triage.explain(x)
    own = triage.pipeline.predict(x)
    for name in ("energy", "maha", "ViyogTV"):
        torch.testing.assert_close(explained.scores[name], own[name].double())
        known = triage.calibration.scores[name]
        count = (known[:, None] >= explained.scores[name]).sum(dim=0)
        expected = (1 + count).double() / (len(known) + 1)
        torch.testing.assert_close(explained.p_values[name], expected)
    for name, alarms in explained.alarms.items():
        assert torch.equal(alarms, explained.scores[name] > explained.thresholds[name])
    first = str(explained).splitlines()[0]
    assert all(text in first for text in ("energy", "maha", "ViyogTV", FUSED, "(p="))


def test_fused_score_by_hand():
    reference = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([0.0, 0.0, 9.0])}
    scores = {"a": torch.tensor([4.0, 2.0]), "b": torch.tensor([1.0, -1.0])}
    normal = torch.distributions.Normal(0.0, 1.0)
    # ranks from above: a has 0 and 2 of 3 reference scores, b has 1 and 3
    quantiles = torch.tensor([[0.5, 2.5], [1.5, 3.5]]) / 4
    expected = normal.icdf(1 - quantiles).sum(dim=0) / math.sqrt(2)
    torch.testing.assert_close(fused_score(reference, scores).float(), expected)


def test_a_single_gate_keeps_its_own_scale(network):
    triage = Triage(None, ViyogTV(network)).fit(batches(100, 1), batches(59, 2))
    assert set(triage.calibration.thresholds) == {"EnergyBased", "ViyogTV"}
    # three cuts for two signals: the first cut takes the largest energy
    x = draw(59, 2)[0]
    energy = EnergyBased(network).predict(x).detach()
    assert triage.calibration.thresholds["EnergyBased"] in energy.topk(3).values.tolist()


def test_any_gate_may_raise_its_own_alarm(network):
    gates = {"energy": EnergyBased(None), "msp": MaxSoftmax(None)}
    triage = Triage(gates, ViyogTV(network), combine="any", router_share=0.4)
    triage.fit(batches(100, 1), batches(100, 2))
    assert triage.shares == pytest.approx({"energy": 0.3, "msp": 0.3, "ViyogTV": 0.4})
    assert set(triage.calibration.thresholds) == {"energy", "msp", "ViyogTV"}


# -- the guarantee ---------------------------------------------------------------------------


@pytest.mark.parametrize("router", [ViyogTV, ViyogResidue])
@pytest.mark.parametrize("combine", ["fused", "any"])
def test_false_alarms_are_bounded_over_calibration_sets(network, combine, router):
    gates = {"energy": EnergyBased(None), "maha": Mahalanobis(None)}
    # the intent has no part in who raises an alarm
    triage = Triage(gates, router(network), id_fpr=0.1, combine=combine, intent=False)
    triage.pipeline.fit(batches(200, 1))
    table = triage.pipeline.score(batches(12000, 2, 1000))
    scores = torch.stack([table[name].double() for name in triage.pipeline.detectors])
    fused = triage.gates if FUSED in triage.shares else []
    rates = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        order = torch.randperm(12000, generator=generator)
        known, new = (
            dict(zip(triage.pipeline.detectors, scores[:, part], strict=True))
            for part in (order[:120], order[120:1120])
        )
        calibration = Calibration.of(known, fused, triage.shares, triage.id_fpr)
        verdicts = calibration.verdicts(calibration.with_fused(new), *triage.rule)
        rates.append((verdicts != Verdict.ID).double().mean())
    rates = torch.stack(rates)
    placed = 96 if fused else 120
    promised = math.floor(0.1 * (placed + 1)) / (placed + 1)
    assert abs(rates.mean() - promised) < 4 * rates.std() / math.sqrt(200)


def test_calibrating_on_the_data_of_the_fit_breaks_the_guarantee(network):
    def rate(calibration):
        gate = KNN(None, k=1, normalize=False)
        triage = Triage(gate, ViyogTV(network), id_fpr=0.1).fit(batches(200, 1), calibration)
        return (triage.predict(draw(400, 9)[0]) != Verdict.ID).double().mean()

    assert rate(batches(400, 8)) < 0.2
    # the nearest neighbour of a sample that was fitted is the sample itself
    assert rate(batches(200, 1)) > 0.8


def test_too_few_calibration_samples_are_refused(network, triage):
    with pytest.raises(ValueError, match=r"needs 39 or more ID samples .* got 38"):
        Triage(None, ViyogTV(network)).fit(batches(50, 1), batches(38, 2))
    Triage(None, ViyogTV(network)).fit(batches(50, 1), batches(39, 2))
    gates = {"energy": EnergyBased(None), "msp": MaxSoftmax(None)}
    fused = Triage(gates, ViyogTV(network))
    with pytest.raises(ValueError, match=r"needs (\d+) or more ID samples") as caught:
        fused.fit(batches(50, 1), batches(45, 2))
    needed = int(str(caught.value).split()[2])
    fused.fit(batches(50, 1), batches(needed, 2))


# -- fitting ---------------------------------------------------------------------------------


def test_fitted_detectors_are_kept(network):
    gate, router = Mahalanobis(None), ViyogTV(network).fit(batches(100, 7))
    profile = router.channel_profile
    Triage(gate, router).fit(batches(100, 1), batches(100, 2))
    assert torch.equal(router.channel_profile, profile)
    precision = gate.precision
    Triage(gate, router).fit(batches(100, 3), batches(100, 2))
    assert gate.precision is precision


def test_held_out_samples_calibrate_and_the_user_is_warned(network):
    gate = Mahalanobis(None)
    triage = Triage(gate, ViyogTV(network), held_out=0.3)
    with pytest.warns(UserWarning, match="trained on these images"):
        triage.fit(batches(400, 1))
    calibrated = len(triage.calibration.scores["Mahalanobis"])
    assert 90 < calibrated < 150
    assert int(triage.pipeline["ViyogTV"]._statistics["count"]) == 400 - calibrated
    assert triage.id_fpr * 2 > (triage.predict(draw(500, 3)[0]) != 0).double().mean()


def test_with_fitted_detectors_all_samples_calibrate(network):
    triage = Triage(None, ViyogTV(network).fit(batches(100, 1)))
    with pytest.warns(UserWarning, match="trained on these images"):
        triage.fit(batches(100, 2))
    assert len(triage.calibration.scores["ViyogTV"]) == 100


def test_held_out_parts_are_disjoint_and_complete():
    x, y = torch.arange(300.0)[:, None], torch.arange(300) % 3 - 1
    part = HeldOut([(x[i : i + 50], y[i : i + 50]) for i in range(0, 300, 50)], 0.5, 60)
    kept = torch.cat([batch for batch, _ in part])
    held = torch.cat(part.inputs)
    assert len(held) == 60
    assert torch.equal(torch.cat([kept, held]).sort(dim=0).values, x)
    assert not (held % 3 == 0).any()  # label -1: no ID samples
    with pytest.raises(RuntimeError, match="one pass"):
        list(part)


def test_ood_samples_do_not_calibrate(network):
    x, y = draw(100, 2)
    mixed = [(torch.cat([x, x + 50]), torch.cat([y, -torch.ones(100)]))]
    pure = Triage(None, ViyogTV(network)).fit(batches(100, 1), batches(100, 2))
    triage = Triage(None, ViyogTV(network)).fit(batches(100, 1), mixed)
    assert triage.calibration.thresholds == pytest.approx(pure.calibration.thresholds)


def test_a_one_shot_loader_is_refused(network):
    with pytest.raises(ValueError, match="readable more than once"):
        Triage(None, ViyogTV(network)).fit(iter([draw(50, 1)]), batches(50, 2))
    with pytest.raises(ValueError, match="empty"):
        Triage(None, ViyogTV(network)).fit([], batches(50, 2))


def test_a_failed_fit_keeps_the_thresholds(network):
    triage = Triage(None, ViyogTV(network)).fit(batches(100, 1), batches(100, 2))
    before = triage.calibration
    with pytest.raises(ValueError, match="39 or more"):
        triage.fit(batches(100, 1), batches(20, 2))
    assert triage.calibration is before


def test_before_fitting(network):
    triage = Triage(None, ViyogTV(network))
    for call in (triage.predict, triage.explain):
        with pytest.raises(RequiresFittingException, match="fit"):
            call(draw(2, 1)[0])
    with pytest.raises(RequiresFittingException):
        triage.state_dict()
    assert "fitted=False" in repr(triage)


def test_the_model_is_left_as_found():
    model = build(SmallNet)
    model.train()
    train, known, x = batches(60, 1), batches(60, 2), draw(5, 3)[0]
    triage = Triage({"e": EnergyBased(None), "k": KNN(None, k=3)}, ViyogTV(model), id_fpr=0.2)
    with untouched(model):
        triage.fit(train, known, progress=False)
        triage.explain(x)
        triage.report(x, known, [x], progress=False)


@pytest.mark.parametrize(
    ("gate", "options", "error", "message"),
    [
        ("energy", {}, TypeError, "gate must be a detector"),
        ({}, {}, TypeError, "gate must be a detector"),
        (None, {"id_fpr": 0.0}, ValueError, "id_fpr"),
        (None, {"router_share": 1.0}, ValueError, "router_share"),
        (None, {"held_out": 2}, ValueError, "held_out"),
        (None, {"combine": "all"}, ValueError, "'fused', 'any' or 'max'"),
        ({FUSED: EnergyBased(None)}, {}, ValueError, "names of other signals"),
    ],
)
def test_arguments_are_checked(network, gate, options, error, message):
    with pytest.raises(error, match=message):
        Triage(gate, ViyogTV(network), **options)


def test_router_and_model_are_checked(network):
    with pytest.raises(TypeError, match=r"first-layer detector.*got EnergyBased"):
        Triage(None, EnergyBased(network))
    with pytest.raises(ValueError, match="no model"):
        Triage(None, ViyogTV(None))
    assert Triage(EnergyBased(network), ViyogTV(None)).pipeline.model is network
    assert Triage(None, ViyogTV(None), model=network).pipeline.model is network


def test_arguments_of_the_shared_pass_go_through(network):
    triage = Triage({"odin": ODIN(network)}, Viyog(network), separate=["odin"])
    triage.fit(batches(50, 1), batches(50, 2))
    assert "odin" in triage.explain(draw(2, 3)[0]).scores


# -- state -----------------------------------------------------------------------------------


def saved(state, path):
    torch.save(state, path)
    return torch.load(path, weights_only=True)


def test_state_survives(network, triage, tmp_path):
    gates = {"energy": EnergyBased(None), "maha": Mahalanobis(None)}
    other = Triage(gates, ViyogTV(network), id_fpr=0.5, router_share=0.9)
    other.load_state_dict(saved(triage.state_dict(), tmp_path / "triage.pt"))
    x = 3 * draw(50, 3)[0]
    assert torch.equal(other.predict(x), triage.predict(x))
    assert str(other.explain(x)) == str(triage.explain(x))
    assert repr(other) == repr(triage)
    assert "fitted=True" in repr(other)


def test_state_of_other_detectors_is_refused(network, triage):
    state = triage.state_dict()
    with pytest.raises(ValueError, match="state must belong to"):
        Triage(None, ViyogTV(network)).load_state_dict(state)
    with pytest.raises(ValueError, match="state must belong to"):
        TriageLDA(network, {"energy": EnergyBased(None)}).load_state_dict(state)
    wrong = {"energy": Mahalanobis(None), "maha": EnergyBased(None)}
    with pytest.raises(ValueError, match="does not belong to a"):
        Triage(wrong, ViyogTV(network)).load_state_dict(state)


@pytest.mark.parametrize(
    ("gate", "where"),
    [(KNN(None, k=3), "knn=NearestNeighbors"), (KLMatching(None), "dists=ParameterDict")],
)
def test_state_in_other_objects_is_refused(network, gate, where):
    triage = Triage(gate, ViyogTV(network)).fit(batches(100, 1), batches(100, 2))
    with pytest.raises(TypeError, match=where):
        triage.state_dict()


def test_no_warning_with_calibration_data(network):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Triage(None, ViyogTV(network)).fit(batches(60, 1), batches(60, 2))


def test_the_published_gate_has_one_budget_for_all_signals(network):
    gates = {"energy": EnergyBased(None), "maha": Mahalanobis(None)}
    triage = Triage(gates, ViyogTV(network), id_fpr=0.1, combine="max")
    triage.fit(batches(200, 1), batches(300, 2))
    limits = triage.calibration.thresholds
    assert set(limits) == {"energy", "maha", "ViyogTV"}
    known = {name: triage.calibration.scores[name] for name in limits}
    # 240 samples set the common threshold: 24 of 241 are cut off, the last of them touches it
    assert max(int((known[name] > limit).sum()) for name, limit in limits.items()) <= 24
    verdicts = triage.predict(draw(400, 7)[0])
    assert 0.02 < float((verdicts != Verdict.ID).double().mean()) < 0.2
    assert "maha: shares 10.00% of ID with the others" in repr(triage)
    loaded = Triage(gates, ViyogTV(network), combine="max").load_state_dict(triage.state_dict())
    assert torch.equal(loaded.predict(draw(50, 8)[0]), triage.predict(draw(50, 8)[0]))
