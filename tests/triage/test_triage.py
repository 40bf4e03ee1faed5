"""Verdicts learnt from ID images alone: what is promised, what is read, what survives."""

import copy
import pickle
import warnings

import pytest
import torch
from manners import untouched
from patterned import batches, pattern_net, patterned
from pytorch_ood.api import RequiresFittingException
from pytorch_ood.detector import EnergyBased, MaxSoftmax
from pytorch_ood.metrics import OODMetrics
from torch import nn

from pytorch_ood_viyog import AdversarialOdds, Triage, Verdict, ViyogResidue
from pytorch_ood_viyog.images.pixel_range import PixelRange
from pytorch_ood_viyog.populations import Classifier, bounded
from pytorch_ood_viyog.triage.learning import SHAPES

QUIET = {"progress": False}
EVIDENCE = ["ViyogResidue", "ResidueAlarm", "smooth residue", "noise floor", "EnergyBased", "KNN"]


@pytest.fixture(scope="module")
def net():
    return pattern_net()


@pytest.fixture(scope="module")
def triage(net):
    return Triage(net).fit(batches(150, 2), batches(160, 3), **QUIET)


@pytest.fixture(scope="module")
def x():
    return patterned(60, 4)[0]


@pytest.fixture(scope="module")
def attacked(net, x):
    pixels = PixelRange.of(x, None)
    classifier = Classifier(net, pixels)
    answers = classifier.answers(x)
    found = bounded(classifier, x, answers, 5, 9)
    return found[classifier.fooled(found, answers)]


# -- verdicts --------------------------------------------------------------------------------


def test_four_kinds_are_told_apart(triage, x, attacked):
    said = {verdict: triage.predict(x) for verdict in Verdict}
    noise = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float((said[Verdict.ID] == int(Verdict.ID)).double().mean()) > 0.8
    assert float((triage.predict(attacked) == int(Verdict.ADV)).double().mean()) > 0.6
    assert float((triage.predict(noise) == int(Verdict.OOD)).double().mean()) > 0.8


def test_false_alarms_on_new_images_are_bounded(triage):
    new = patterned(400, 11)[0]
    alarms = torch.cat([triage.predict(part) != int(Verdict.ID) for part in new.split(50)])
    # Beta(4, 77) over calibration sets of 80: above .12 once in 100
    assert float(alarms.double().mean()) < 0.13


def test_batches_do_not_matter(triage, x):
    whole = triage.log_odds(x)
    parts = torch.cat([triage.log_odds(part) for part in x.split(7)])
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)
    assert triage.predict(x[:0]).shape == (0,)


def test_the_order_of_calibration_data_does_not_matter(net, triage, x):
    data = torch.cat([part for part, _ in batches(160, 3)]).flip(0)
    other = Triage(net).fit(batches(150, 2), list(data.split(50)), **QUIET)
    torch.testing.assert_close(other.log_odds(x), triage.log_odds(x), rtol=0.05, atol=0.05)


def test_posterior_and_log_odds_agree(triage, x):
    posterior = triage.posterior(x)
    assert posterior.shape == (60, 4)
    torch.testing.assert_close(posterior.sum(dim=1), torch.ones(60).double())
    torch.testing.assert_close(posterior, triage.log_odds(x).softmax(dim=1))


def test_the_model_is_left_as_found(x):
    net = pattern_net().train()
    with untouched(net):
        triage = Triage(net, simulate_on=40).fit(batches(150, 2), batches(160, 3), **QUIET)
        triage.predict(x)
        triage.explain(x[:3])
    assert net.training


# -- what is asked when ----------------------------------------------------------------------


@pytest.mark.parametrize("look", ["always", "never"])
def test_when_the_model_is_asked_again(net, triage, x, look):
    other = copy.copy(triage)
    other.look = look
    asked = other.explain(x).asked
    assert bool(asked.all()) if look == "always" else not bool(asked.any())


def test_few_id_images_are_asked_about_again(triage):
    asked = triage.explain(patterned(300, 12)[0]).asked
    assert float(asked.double().mean()) < 0.25


def test_explanations_add_up(triage, x, attacked):
    explained = triage.explain(torch.cat([x[:5], attacked[:5]]))
    rule = triage.fitted.rule
    asked = explained.asked
    total = torch.stack([*explained.log_odds.values()]).nansum(dim=0)
    bias = torch.where(asked[:, None], rule.full.bias, rule.first.bias)
    inputs = torch.cat([x[:5], attacked[:5]])
    torch.testing.assert_close(total + bias, triage.log_odds(inputs), rtol=1e-4, atol=1e-4)
    assert set(EVIDENCE) | set(SHAPES) < set(explained.scores)
    lines = str(explained).splitlines()
    assert len(lines) == 10
    for line, verdict in zip(lines, explained.verdicts.tolist(), strict=True):
        assert Verdict(verdict).name in line
    one = explained.sample(3)
    assert one.verdicts.tolist() == explained.verdicts[3:4].tolist()
    assert float(one.least_p) == float(explained.least_p[3])
    assert explained.strongest(9)[0][0] in explained.scores


# -- evidence --------------------------------------------------------------------------------


def test_evidence_is_added_replaced_and_left_out(net, x):
    residue = ViyogResidue(net, directions=8)
    evidence = {"softmax": MaxSoftmax(None), "KNN": None, "ViyogResidue": residue}
    triage = Triage(net, evidence=evidence, simulate_on=40)
    assert list(triage.pipeline.detectors) == [*EVIDENCE[:-1], "softmax"]
    assert triage.pipeline["noise floor"].residue is residue
    triage.fit(batches(150, 2), batches(160, 3), **QUIET)
    assert "softmax" in triage.explain(x[:2]).log_odds


@pytest.mark.parametrize(
    ("evidence", "error", "message"),
    [
        ({"margin": EnergyBased(None)}, ValueError, "must not have the name 'margin'"),
        ({"nothing": None}, ValueError, "has no 'nothing' to leave out"),
        ({"mine": 3}, TypeError, "'mine' must be a pytorch-ood detector, got int"),
        ({"ViyogResidue": None}, ValueError, "must keep a ViyogResidue"),
    ],
)
def test_evidence_that_is_none(net, evidence, error, message):
    with pytest.raises(error, match=message):
        Triage(net, evidence=evidence)


def test_images_of_the_users_own_train_the_rule(net, x):
    strange = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    triage = Triage(net, simulate_on=40)
    triage.fit(batches(150, 2), batches(160, 3), ood=strange, adv=[strange[:40]], **QUIET)
    counts = triage.fitted.populations
    assert counts["given OOD"] == 60
    assert counts["given ADV"] == 40


def test_behind_a_way(net, x):
    def darker(images):
        return (images * 0.9 * 255).round() / 255

    triage = Triage(net, through=darker, simulate_on=60)
    triage.fit(batches(150, 2), batches(160, 3), **QUIET)
    assert float((triage.predict(darker(x)) == 0).double().mean()) > 0.7


def test_drift_of_the_way(triage):
    # the calibration images and those of the fit are of one kind
    assert triage.drift.check(patterned(60, 21)[0]).p_value > 0.001
    noisy = (patterned(60, 21)[0] + 6 / 255 * torch.randn(60, 3, 16, 16)).clamp(0, 1)
    assert triage.drift.check((noisy * 255).round() / 255).p_value < 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_inputs_and_grey_images(channels):
    net = pattern_net(channels)

    def normalised(parts):
        return [(4 * x - 2, y) for x, y in parts]

    class Denormalising(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net((x + 2) / 4)

    triage = Triage(Denormalising(), simulate_on=40)
    triage.fit(
        normalised(batches(150, 2, channels)), normalised(batches(160, 3, channels)), **QUIET
    )
    x = patterned(40, 5, channels)[0]
    assert float((triage.predict(4 * x - 2) == 0).double().mean()) > 0.7


def test_loaders_without_labels(net):
    def bare(parts):
        return [x for x, _ in parts]

    Triage(net, simulate_on=30).fit(bare(batches(150, 2)), bare(batches(160, 3)), **QUIET)


# -- bad input -------------------------------------------------------------------------------


def test_too_few_calibration_images(net):
    with pytest.raises(ValueError, match=r"Too few calibration images: 64.*89 in all"):
        Triage(net).fit(batches(150, 2), batches(64, 3), **QUIET)


def test_families_without_successes_are_left_out(net):
    still = nn.Sequential(pattern_net(), Shifted())
    message = "Only . attacks of the family|Only .. attacks of the family"
    with pytest.warns(UserWarning, match=message):
        triage = Triage(still, simulate_on=40).fit(batches(150, 2), batches(160, 3), **QUIET)
    assert "one step" not in triage.fitted.populations


class Shifted(nn.Module):
    """Nearly always the first class: bounded attacks seldom change the answer."""

    def forward(self, logits):
        return logits + torch.tensor([2.0, 0.0, 0.0])


def test_a_model_without_gradients(net, x):
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.body, self.head = net.conv, net.body, net.head

        def forward(self, images):
            maps = self.body(self.conv(images)).mean(dim=(2, 3))
            return self.head(maps.detach().clone().requires_grad_(False)).detach()

    triage = Triage(Opaque(), simulate_on=40).fit(batches(150, 2), batches(160, 3), **QUIET)
    assert "attacks by filters" in repr(triage)
    assert "minimal" not in triage.fitted.populations


@pytest.mark.parametrize("classes", [0, 1])
def test_models_that_are_no_classifiers(classes):
    net = pattern_net()
    net.head = nn.Linear(12, classes + 1) if classes == 0 else nn.Linear(12, 1)
    message = r"class|logits|selected index"
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        Triage(net).fit(batches(150, 2), batches(160, 3), **QUIET)


def test_logits_in_a_dictionary(net, x):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return {"logits": self.net(images)}

    with pytest.raises(TypeError, match="logits="):
        Triage(Named()).fit(batches(150, 2), batches(160, 3), **QUIET)
    picked = Triage(Named(), logits=lambda output: output["logits"], simulate_on=40)
    picked.fit(batches(150, 2), batches(160, 3), **QUIET)
    assert picked.predict(x).shape == (60,)


def test_an_interrupted_fit_leaves_the_old_state(net, triage, x):
    other = copy.copy(triage)
    before = other.log_odds(x)

    def broken():
        yield from batches(64, 5)
        raise RuntimeError("the disk is gone")

    class Loader:
        def __iter__(self):
            return broken()

    with pytest.raises(RuntimeError, match="the disk is gone"):
        other.fit(batches(150, 2), Loader(), **QUIET)
    assert torch.equal(other.log_odds(x), before)


def test_without_calibration_data_there_is_a_warning(net):
    with pytest.warns(UserWarning, match="Triage.fit without calibration_loader"):
        triage = Triage(net, held_out=0.5, simulate_on=30).fit(batches(400, 2), **QUIET)
    assert triage.fitted.thresholds.known.shape[1] >= 59


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"look": "sometimes"}, "look must be 'open', 'always' or 'never', got 'sometimes'"),
        ({"id_fpr": 0.7}, "id_fpr"),
        ({"noisy_fpr": 0}, "noisy_fpr"),
        ({"simulate_on": 3}, "simulate_on"),
    ],
)
def test_settings_out_of_range(net, options, message):
    with pytest.raises(ValueError, match=message):
        Triage(net, **options)


def test_no_module_and_no_fit(net, x):
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got str"):
        Triage("resnet18")
    with pytest.raises(RequiresFittingException):
        Triage(net).predict(x)
    with pytest.raises(RequiresFittingException):
        Triage(net).drift  # noqa: B018


# -- state, detector, report -----------------------------------------------------------------


def test_states_survive(net, triage, x, tmp_path):
    torch.save(triage.state_dict(), tmp_path / "triage.pt")
    state = torch.load(tmp_path / "triage.pt", weights_only=True)
    other = Triage(net).load_state_dict(state)
    assert torch.equal(other.log_odds(x), triage.log_odds(x))
    assert other.drift.check(x).p_value == triage.drift.check(x).p_value
    assert repr(other) == repr(triage)


def test_copies_and_pickles(triage, x):
    for other in (copy.deepcopy(triage), pickle.loads(pickle.dumps(triage))):
        assert torch.equal(other.log_odds(x), triage.log_odds(x))


def test_other_states_are_refused(net, triage):
    state = triage.state_dict()
    with pytest.raises(ValueError, match="States of older versions cannot be read"):
        Triage(net).load_state_dict(state | {"version": 3})
    with pytest.raises(ValueError, match="with the evidence"):
        Triage(net, evidence={"KNN": None}).load_state_dict(state)


def test_adversarial_odds_are_a_detector(net, triage, x, attacked):
    detector = AdversarialOdds(triage)
    scores = detector.predict(x)
    z = triage.log_odds(x)
    torch.testing.assert_close(scores, z[:, 2] - z[:, [0, 1, 3]].logsumexp(dim=1))
    metrics = OODMetrics()
    metrics.update(scores, torch.zeros(len(x)))
    metrics.update(detector.predict(attacked), -torch.ones(len(attacked)))
    assert float(metrics.compute()["AUROC"]) > 0.8
    assert AdversarialOdds(net, look="never").triage.look == "never"
    detector.look = "never"
    assert triage.look == "never"
    detector.look = "open"
    with pytest.raises(ValueError, match="look must be"):
        detector.look = "now and then"
    with pytest.raises(ValueError, match="A triage has its own"):
        AdversarialOdds(triage, look="never")


def test_reports(triage, x, attacked):
    strange = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = triage.report(x, strange, attacked, progress=False)
    assert report.confusion.sum(dim=1).tolist() == [60, 20, len(attacked)]
    assert {sample.truth for sample in report.samples} == {Verdict.ID, Verdict.OOD, Verdict.ADV}
    assert set(report.scores) == {"ID odds", "OOD odds", "ADV odds", "NOISY odds"}
