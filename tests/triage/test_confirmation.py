"""Triage with a second look: who pays for it, what it changes, what is reported."""

import io
import math

import pytest
import torch
from attacked import attacked, id_batches, id_images, trained
from pytorch_ood.detector import EnergyBased

from pytorch_ood_viyog import SecondLook, Triage, Verdict, ViyogResidue, ViyogTV
from pytorch_ood_viyog.looks.surprise import surprise
from pytorch_ood_viyog.triage.confirmation import CONFIRM

pytestmark = pytest.mark.filterwarnings("ignore:.*of the ID answers change")
MODEL = trained()
X, _ = id_images(1, 1)
ADV = attacked(MODEL, X)
MIXED = torch.cat([X, ADV])


def triage(when="alarm", router=ViyogResidue, **options):
    look = SecondLook(None, purifier="maps", strength=8 / 255)
    return Triage(
        EnergyBased(None), router(MODEL), confirm=look, confirm_when=when, **options
    ).fit(id_batches(), id_batches(seed=3))


@pytest.fixture(scope="module")
def confirming():
    return triage()


def passes(judge, x):
    seen = []
    handle = MODEL.fc.register_forward_hook(lambda layer, args, output: seen.append(len(output)))
    verdicts = judge.predict(x)
    handle.remove()
    return sum(seen), verdicts


def test_only_alarmed_samples_pay(confirming):
    count, verdicts = passes(confirming, MIXED)
    alarmed = int((verdicts != int(Verdict.ID)).sum())
    assert 0 < alarmed < len(MIXED)
    assert count == len(MIXED) + alarmed


def test_without_alarms_nothing_is_asked(confirming):
    calm = X[confirming.predict(X) == int(Verdict.ID)]
    count, _ = passes(confirming, calm)
    assert count == len(calm)
    explained = confirming.explain(calm)
    assert explained.second.tolist() == [-1] * len(calm)
    assert not bool(explained.confirmed.any())


def test_always_asks_for_every_sample():
    always = triage("always")
    count, verdicts = passes(always, MIXED)
    alarmed = int((verdicts != int(Verdict.ID)).sum())
    assert count == 2 * len(MIXED) + alarmed
    assert always.shares == {"EnergyBased": 0.25, CONFIRM: 0.25, "ResidueAlarm": 0.5}


def test_the_second_answer_is_reported(confirming):
    explained = confirming.explain(MIXED)
    alarmed = explained.verdicts != int(Verdict.ID)
    wanted = confirming.confirm.compare(MIXED)
    assert torch.equal(explained.second[alarmed], wanted.second.argmax(dim=1)[alarmed])
    assert set(explained.second[~alarmed].tolist()) == {-1}
    adv = explained.verdicts == int(Verdict.ADV)
    assert torch.equal(explained.confirmed, adv & (wanted.p_values["score"] <= 0.05))
    assert "second answer" in str(explained)
    assert "confirmed" in str(explained)


def test_the_verdict_by_hand(confirming):
    explained = confirming.explain(MIXED)
    limits = confirming.calibration.thresholds
    alarm = torch.stack([explained.scores[name] > limit for name, limit in limits.items()]).any(0)
    router, least, _ = confirming.rule
    residue = surprise(confirming.calibration.scores[router], explained.scores[router])
    odds = -confirming.confirm.compare(MIXED).p_values["lost_odds"].log()
    both = (residue + odds > 4.744) & (odds >= -math.log(0.1))
    adv = alarm & ((explained.scores[router] > least) | both)
    wanted = torch.where(adv, -1, torch.where(alarm, 1, 0))
    assert torch.equal(explained.verdicts, wanted)


def test_id_false_alarms_are_those_without_a_second_look(confirming):
    plain = Triage(EnergyBased(None), confirming.pipeline[confirming.router])
    plain.fit(id_batches(), id_batches(seed=3))
    fresh, _ = id_images(8, 4)
    one, other = confirming.predict(fresh), plain.predict(fresh)
    assert torch.equal(one == int(Verdict.ID), other == int(Verdict.ID))


@pytest.mark.parametrize("when", ["alarm", "always"])
def test_any_router_can_be_confirmed(when):
    judge = triage(when, ViyogTV)
    assert set(judge.predict(MIXED).tolist()) <= {0, 1, -1}


def test_state_carries_the_confirmation_over(confirming):
    stream = io.BytesIO()
    torch.save(confirming.state_dict(), stream)
    stream.seek(0)
    look = SecondLook(None, purifier="maps")
    other = Triage(EnergyBased(None), ViyogResidue(MODEL), confirm=look)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other.predict(MIXED), confirming.predict(MIXED))


def test_held_out_samples_calibrate():
    look = SecondLook(None, purifier="maps", strength=8 / 255)
    judge = Triage(EnergyBased(None), ViyogResidue(MODEL), confirm=look)
    with pytest.warns(UserWarning, match="without calibration_loader"):
        judge.fit(id_batches(copies=8))
    assert judge.predict(MIXED).shape == (len(MIXED),)


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="confirm must be a SecondLook, got ViyogTV"):
        Triage(None, ViyogTV(MODEL), confirm=ViyogTV(None))
    with pytest.raises(ValueError, match="confirm_when must be 'alarm' or 'always'"):
        Triage(None, ViyogTV(MODEL), confirm=SecondLook(None), confirm_when="never")


def test_the_second_look_is_calibrated_on_new_id_samples():
    look = SecondLook(MODEL, purifier="maps", strength=8 / 255).fit(id_batches())
    before = look.fitted
    judge = Triage(EnergyBased(None), ViyogResidue(MODEL), confirm=look)
    judge.fit(id_batches(), id_batches(seed=3))
    assert look.fitted.reference is before.reference, "scores are as they were"
    wanted = SecondLook(MODEL, purifier="maps", strength=8 / 255).fit(id_batches())
    wanted.calibrate(id_batches(seed=3))
    assert torch.equal(look.fitted.known.score, wanted.fitted.known.score)
    assert len(look.fitted.known.score) == sum(len(y) for _, y in id_batches(seed=3))
