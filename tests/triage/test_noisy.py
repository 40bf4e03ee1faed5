"""The fourth verdict: residues that are not shaped as an attack's."""

import re

import pytest
import torch
from smooth_images import images
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import ViyogResidue, ViyogTV
from pytorch_ood_viyog.detectors import ViyogIntent
from pytorch_ood_viyog.images import BenignChange
from pytorch_ood_viyog.triage.noisy import INTENT
from pytorch_ood_viyog.triage.triage import Triage
from pytorch_ood_viyog.triage.verdict import Verdict


def batches(count, seed, labels=None):
    y = torch.arange(count) % 5 if labels is None else labels
    return DataLoader(TensorDataset(images(count, seed), y), batch_size=50)


def attacked(model, x, eps=8 / 255):
    """One signed step along the gradient of a loss that depends on some places of the maps."""
    maps = model.stem(x)
    generator = torch.Generator().manual_seed(9)
    some = torch.randn(maps.shape, generator=generator)
    some = some * (torch.rand(maps.shape, generator=generator) < 0.03)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((model.stem(leaf) * some).sum(), leaf)
    return ((x + eps * gradient.sign()).clamp(0, 1) * 255).round() / 255


@pytest.fixture(scope="module")
def triage(network):
    router = ViyogResidue(network, sample_size=80)
    intent = ViyogIntent(network, residues="filters", sample_size=80)
    return Triage(None, router, id_fpr=0.1, intent=intent).fit(batches(150, 1), batches(200, 2))


def test_noise_is_noisy_and_an_attack_is_adv(network, triage):
    x = images(100, 3)
    noisy = triage.predict(BenignChange("white noise", 8)(x))
    assert (noisy == Verdict.NOISY).double().mean() > 0.8
    adv = triage.predict(attacked(network, x))
    assert (adv == Verdict.ADV).double().mean() > 0.7
    report = triage.report(x, 6 * x, attacked(network, x), noisy=BenignChange("white noise", 8)(x))
    assert report.recall[Verdict.NOISY] > 0.8


def test_the_second_guarantee_holds_over_calibration_sets(triage):
    intent = triage.pipeline[INTENT]
    scores = torch.cat([intent.benign_scores(images(100, s), seed=s) for s in range(20, 32)])
    generator, rates = torch.Generator().manual_seed(0), []
    for _ in range(200):
        order = torch.randperm(len(scores), generator=generator)
        known, new = scores[order[:99]], scores[order[99:]]
        calibration = triage.calibration.with_intent(INTENT, known.sort().values, 0.05)
        rates.append((new > calibration.least_intent).double().mean())
    rates = torch.stack(rates)
    # floor(0.05 * 100) / 100, up to ties among scores
    assert rates.mean() < 0.05 + 4 * rates.std() / 200**0.5
    assert rates.mean() > 0.03


def test_the_threshold_is_the_conformal_quantile_of_benign_scores(triage):
    known = triage.calibration.scores[INTENT]
    assert len(known) == 200
    above = int((known > triage.calibration.least_intent).sum())
    assert above == 9  # floor(0.05 * 201) = 10 cuts, the last of which is the threshold


def test_alarms_on_id_do_not_depend_on_intent(network, triage):
    router = triage.pipeline["ViyogResidue"]
    without = Triage(None, router, id_fpr=0.1, intent=False).fit(batches(50, 1), batches(200, 2))
    x = torch.cat([images(50, 5), BenignChange("white noise", 4)(images(50, 6))])
    assert torch.equal(triage.predict(x) == Verdict.ID, without.predict(x) == Verdict.ID)
    assert Verdict.NOISY not in without.predict(x).tolist()
    assert without.calibration.least_intent is None


def test_explanation_and_repr_show_the_intent(triage):
    x = BenignChange("white noise", 8)(images(3, 7))
    explained = triage.explain(x)
    limit = triage.calibration.least_intent
    assert explained.required[INTENT] == limit
    line = str(explained).splitlines()[0]
    assert re.search(rf"NOISY .*ViyogIntent \S+ <= {limit:.4g} \(p=", line)
    assert f"ViyogIntent above {limit:.4g}, which 5.00% of noisy ID may exceed" in repr(triage)
    expected = (1 + (triage.calibration.scores[INTENT] >= explained.scores[INTENT][0]).sum()) / 201
    assert explained.p_values[INTENT][0] == pytest.approx(float(expected))


def test_state_survives(network, triage, tmp_path):
    torch.save(triage.state_dict(), tmp_path / "triage.pt")
    other = Triage(None, ViyogResidue(network), intent=True, noisy_fpr=0.2)
    other.load_state_dict(torch.load(tmp_path / "triage.pt", weights_only=True))
    x = torch.cat([images(10, 8), BenignChange("white noise", 8)(images(10, 8))])
    assert torch.equal(other.predict(x), triage.predict(x))
    assert other.noisy_fpr == 0.05
    assert repr(other) == repr(triage)


def test_ood_samples_and_one_shot_loaders_calibrate_the_same(network, triage):
    x = images(200, 2)
    y = torch.arange(200) % 5
    mixed = iter(
        [
            (torch.cat([part, part + 50]), torch.cat([label, -torch.ones(50)]))
            for part, label in zip(x.split(50), y.split(50), strict=True)
        ]
    )
    intent, router = triage.pipeline[INTENT], triage.pipeline["ViyogResidue"]
    again = Triage(None, router, id_fpr=0.1, intent=intent).fit(batches(50, 1), mixed)
    assert again.calibration.least_intent == pytest.approx(triage.calibration.least_intent)


def test_a_given_intent_is_kept(network):
    intent = ViyogIntent(network, sample_size=40, directions=8)
    triage = Triage(None, ViyogResidue(network, sample_size=64), intent=intent)
    assert triage.pipeline[INTENT] is intent
    own = Triage(None, ViyogResidue(network, eps=(2 / 255,), seed=3), intent=True).pipeline[INTENT]
    assert own.eps == (2 / 255,)
    assert own.seed == 3
    assert Triage(None, ViyogTV(network), intent=True).intent is None


def test_impossible_intents_are_refused(network):
    with pytest.raises(TypeError, match="intent must be a ViyogIntent, True or False, got 'yes'"):
        Triage(None, ViyogResidue(network), intent="yes")
    with pytest.raises(TypeError, match="Pass a ViyogResidue as router"):
        Triage(None, ViyogIntent(network))
    with pytest.raises(ValueError, match="intent needs a model"):
        Triage(None, ViyogResidue(network), intent=ViyogIntent(None))
    with pytest.raises(ValueError, match="which a ViyogTV does not look for"):
        Triage(None, ViyogTV(network), intent=ViyogIntent(network))
    with pytest.raises(ValueError, match="A router with intent lowers its scores"):
        Triage(None, ViyogResidue(network, intent="filters"), intent=True)
    with pytest.raises(ValueError, match="noisy_fpr"):
        Triage(None, ViyogResidue(network), noisy_fpr=0)
