"""Verdicts of a whole Triage: what it says, what it refuses, what it leaves alone."""

import copy

import pytest
import torch
from attacked import attacked, id_batches, id_images, trained
from digits import images as digits
from digits import trained as trained_digits
from linear_models import WithoutGradients
from manners import untouched
from pytorch_ood.api import RequiresFittingException
from pytorch_ood.detector import KNN, EnergyBased, MaxSoftmax
from torch import nn
from wrapped import Normalised, Packed

from pytorch_ood_viyog import Triage, Verdict
from pytorch_ood_viyog.triage import AdversarialOdds
from pytorch_ood_viyog.triage.populations.verdict import ORDER

# these images are few and the net is tiny: families may be left out
pytestmark = pytest.mark.filterwarnings("ignore:Only .* attacks of the family")
MODEL = trained()
CLEAN = id_images(2, 1)[0]
X = torch.cat([CLEAN, attacked(MODEL, CLEAN[:16]), torch.rand(8, *CLEAN.shape[1:])])


def fit(triage, *, train=0, known=1, copies=4, **options):
    return triage.fit(id_batches(train), id_batches(known, copies), progress=False, **options)


def small(model=MODEL, **options):
    return Triage(model, **{"id_fpr": 0.1, "noisy_fpr": 0.1, "simulate_on": 64} | options)


@pytest.fixture(scope="module")
def triage():
    return fit(small())


@pytest.fixture(scope="module")
def always():
    return fit(small(look="always"))


def test_a_tensor_in_place_of_a_loader():
    with pytest.raises(TypeError, match=r"train_loader must yield batches, got a tensor"):
        small().fit(CLEAN, progress=False)


def test_grey_levels_are_named(triage):
    with pytest.raises(TypeError, match=r"does not run on torch.uint8 .*x.float\(\) / 255"):
        triage.predict((255 * CLEAN).byte())
    with pytest.raises(TypeError, match=r"does not run on torch.uint8 .*x.float\(\) / 255"):
        small().fit([(255 * CLEAN).byte()], [(255 * CLEAN).byte()], progress=False)


# -- what it says ------------------------------------------------------------------------------


def test_verdicts_odds_and_posterior_belong_together(triage):
    z = triage.log_odds(X)
    assert z.shape == (len(X), 4)
    assert z.dtype == torch.float64
    assert torch.equal(triage.predict(X), triage.fitted.thresholds.verdicts(z))
    torch.testing.assert_close(triage.posterior(X), z.softmax(dim=1))
    torch.testing.assert_close(triage.posterior(X).sum(dim=1), torch.ones(len(X)).double())
    assert (triage.predict(CLEAN) == Verdict.ID).float().mean() > 0.6
    assert (triage.predict(X[48:]) != Verdict.ID).float().mean() > 0.6


@pytest.mark.parametrize("name", ["triage", "always"])
def test_an_explanation_adds_up(name, request):
    made = request.getfixturevalue(name)
    with untouched(MODEL):
        explained = made.explain(X)
    z, first, full = made.log_odds(X), made.fitted.rule.first, made.fitted.rule.full
    added = torch.stack([*explained.log_odds.values()]).nansum(dim=0)
    bias = torch.where(explained.asked[:, None], full.bias, first.bias)
    torch.testing.assert_close(added + bias, z)
    assert torch.equal(explained.verdicts, made.predict(X))
    with torch.no_grad():
        assert torch.equal(explained.first, MODEL(X).argmax(dim=1))
    moved = explained.scores["bilateral distance"]
    assert torch.equal(moved.isnan(), ~explained.asked)
    lines = str(explained).splitlines()
    assert len(lines) == len(X)
    for line, verdict in zip(lines, explained.verdicts.tolist(), strict=True):
        assert line.split()[1] == Verdict(verdict).name
        assert "p-values" in line
        assert ("log-odds against ID: " in line) == (verdict != Verdict.ID)
    one = explained.sample(50)
    assert str(one).split()[1:] == lines[50].split()[1:]


def test_what_is_constant_is_no_attack_and_said_to_be_unread(triage):
    plain = torch.zeros_like(X[:2])
    explained = triage.explain(plain)
    assert (explained.verdicts != int(Verdict.ADV)).all()
    for line in str(explained).splitlines():
        assert "100% of the windows are constant, not read" in line
    assert "constant" not in str(triage.explain(X[:2]))


def test_only_open_verdicts_are_asked_again(triage, always):
    asked = triage.explain(X).asked.float()
    assert asked[: len(CLEAN)].mean() < 0.2 < 0.5 < asked[len(CLEAN) :].mean()
    assert always.explain(X).asked.all()
    never = fit(small(look="never"))
    assert never.fitted.rule.full is None
    assert not never.explain(X).asked.any()
    assert "asked again" not in str(never.explain(X))


def test_neither_training_labels_nor_the_order_nor_ood_samples_matter(triage):
    x, y = id_images(1, 4)
    order = torch.randperm(len(x))
    known = [(x[order], y[order]), (torch.rand(20, 3, 8, 8), -torch.ones(20))]
    other = small().fit([x for x, _ in id_batches(0)], known, progress=False)
    torch.testing.assert_close(other.log_odds(X), triage.log_odds(X), rtol=1e-3, atol=1e-3)


def test_normalised_inputs():
    scaled = [[(4 * x - 2, y) for x, y in id_batches(seed)] for seed in (0, 1)]
    made = small(Normalised(trained()), pixel_range=(-2.0, 2.0)).fit(*scaled, progress=False)
    assert (made.predict(4 * CLEAN - 2) == Verdict.ID).float().mean() > 0.6
    assert made.fitted.pixels.low.tolist() == [-2.0] * 3


def test_images_of_one_channel():
    (x, y), (held, _) = digits()
    made = small(trained_digits(), leave_out=["smooth"])
    made.fit([(x, y)], [held[:150]], progress=False)
    assert (made.predict(held[150:]) == Verdict.ID).float().mean() > 0.6


# -- evidence and populations --------------------------------------------------------------------


def test_evidence_populations_and_the_way_are_chosen():
    knn, seen = KNN(None, k=3), []

    def codec(x):
        seen.append(len(x))
        return x.flip(3)

    evidence = {"MSP": MaxSoftmax(None), "KNN": knn, "EnergyBased": None}
    made = fit(small(evidence=evidence, leave_out=["smooth"], through=codec))
    names = list(made.pipeline.detectors)
    assert "MSP" in names
    assert "EnergyBased" not in names
    assert made.pipeline["KNN"] is knn
    assert set(names) < set(made.explain(X).log_odds)
    assert seen
    assert "smooth" not in made.fitted.populations


@pytest.mark.parametrize(
    ("evidence", "error", "message"),
    [
        ({"margin": EnergyBased(None)}, ValueError, "must not have the name 'margin'"),
        ({"MSP": None}, ValueError, "no 'MSP' to leave out"),
        ({"MSP": "MSP"}, TypeError, "pytorch-ood detector, got str"),
    ],
)
def test_evidence_is_checked(evidence, error, message):
    with pytest.raises(error, match=message):
        Triage(MODEL, evidence=evidence)


def test_given_ood_and_adv_train_the_rule():
    ood, adv = torch.rand(40, 3, 8, 8), attacked(MODEL, id_images(5, 1)[0])
    made = fit(small(), ood=ood, adv=[(adv, torch.zeros(len(adv)))])
    assert made.fitted.populations["given OOD"] == 40
    assert made.fitted.populations["given ADV"] == 48
    assert "given OOD 40" in repr(made)
    assert (made.predict(torch.rand(40, 3, 8, 8)) == Verdict.OOD).float().mean() > 0.7


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"id_fpr": 0.0}, ValueError, "id_fpr"),
        ({"noisy_fpr": 2.0}, ValueError, "noisy_fpr"),
        ({"look": "sometimes"}, ValueError, "'open', 'always' or 'never'"),
        ({"ask_share": -1.0}, ValueError, "ask_share"),
        ({"simulate_on": 3}, ValueError, "simulate_on"),
        ({"held_out": 2}, ValueError, "held_out"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_arguments_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        Triage(MODEL, **options)


def test_before_fitting():
    made = small()
    for call in (made.predict, made.posterior, made.explain):
        with pytest.raises(RequiresFittingException, match="fit"):
            call(X)
    with pytest.raises(RequiresFittingException):
        made.state_dict()
    assert "fitted=False" in repr(made)


def test_too_few_calibration_images_say_how_many(triage):
    # 9 for a rate of 0.1, and 30 to learn from
    few = [(x[:19], y[:19]) for x, y in id_batches(1)[:2]]
    before, z = triage.fitted, triage.log_odds(X)
    unread = iter(id_batches(0))
    with pytest.raises(ValueError, match=r"38\. .*9 to set thresholds on and 30 more.*39 in all"):
        triage.fit(unread, few, progress=False)
    assert next(unread, None) is not None, "they are told before anything is fitted"
    with pytest.raises(ValueError, match="calibration_loader holds no ID samples"):
        triage.fit(unread, [], progress=False)
    assert triage.fitted is before
    assert torch.equal(triage.log_odds(X), z)


def test_an_interrupted_fit_keeps_the_old_state(triage, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = triage.fitted
    monkeypatch.setattr("pytorch_ood_viyog.triage.training.learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(triage)
    assert triage.fitted is before


@pytest.mark.filterwarnings("always")
def test_families_with_few_successes_are_left_out_with_a_warning():
    # at most 31 images to attack, of which few fall
    with pytest.warns(UserWarning, match=r"Only \d+ attacks of the family '.*30 are needed"):
        made = fit(small(simulate_on=31), copies=2)
    assert len(made.fitted.populations) < 9


def test_a_model_without_gradients_falls_back_to_filters():
    made = fit(small(WithoutGradients(trained())))
    assert made.fitted.shaped_by == "filters"
    assert "attacks by filters" in repr(made)
    assert "minimal" not in made.fitted.populations
    assert made.predict(X).shape == (len(X),)


def test_logits_in_a_dictionary_are_picked(triage):
    packed = Packed(trained(), lambda z: {"z": z, "more": z})
    made = fit(small(packed, logits=lambda output: output["z"]))
    torch.testing.assert_close(made.log_odds(X), triage.log_odds(X), rtol=1e-3, atol=1e-3)


def test_one_class_or_a_number_is_no_classifier():
    single = nn.Sequential(nn.Conv2d(3, 12, 8), nn.Flatten(), nn.Linear(12, 1)).eval()
    with pytest.raises((TypeError, ValueError), match="class"):
        fit(small(single))


def test_what_is_not_finite_is_refused(triage):
    broken = X.clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        triage.predict(broken)


def test_without_calibration_data_there_is_a_warning():
    with pytest.warns(UserWarning, match="without calibration_loader"):
        made = small(held_out=0.5).fit(id_batches(0, 6), progress=False)
    assert made.fitted.thresholds.known.shape[1] >= 29


# -- state ---------------------------------------------------------------------------------------


def test_state_survives(always, tmp_path):
    torch.save(always.state_dict(), tmp_path / "triage.pt")
    other = Triage(MODEL).load_state_dict(torch.load(tmp_path / "triage.pt", weights_only=True))
    torch.testing.assert_close(other.log_odds(X), always.log_odds(X), rtol=1e-6, atol=1e-6)
    assert str(other.explain(X[:3])) == str(always.explain(X[:3]))
    assert repr(other) == repr(always)


def test_other_states_are_refused(triage):
    state = triage.state_dict()
    other = small()
    with pytest.raises(ValueError, match=r"older versions cannot be read: fit the triage again"):
        other.load_state_dict(state | {"version": 3})
    with pytest.raises(ValueError, match="with the evidence"):
        small(evidence={"KNN": None}).load_state_dict(state)
    assert other._fitted is None


def test_a_state_that_is_not_whole_leaves_the_triage_as_it_was(triage):
    state, wanted = triage.state_dict(), triage.log_odds(X[:4])
    other = small().load_state_dict(state)
    strange = copy.deepcopy(state)
    first, *_, last = state["detectors"]
    strange["detectors"][last] = {"unheard of": 1}
    strange["detectors"][first] = copy.deepcopy(state["detectors"][first])
    for held in strange["detectors"]["ViyogResidue"]["tensors"].values():
        held.mul_(1.5) if held.is_floating_point() else held
    with pytest.raises(ValueError, match="unknown"):
        other.load_state_dict(strange)
    del strange["drift"]
    with pytest.raises(ValueError, match=r"not whole: 'drift'\. Fit the triage again"):
        other.load_state_dict(strange)
    torch.testing.assert_close(other.log_odds(X[:4]), wanted, rtol=1e-6, atol=1e-6)


# -- report --------------------------------------------------------------------------------------


def test_report_and_page(triage, tmp_path):
    report = triage.report(CLEAN, torch.rand(20, 3, 8, 8), X[48:64], progress=False)
    assert report.confusion.sum(dim=1).tolist() == [48, 20, 16]
    assert "ID false alarms" in str(report)
    counts = {truth.name: way.count for truth, way in report.ways.items()}
    assert counts == {"ID": 48, "OOD": 20, "ADV": 16}
    assert report.ways[Verdict.ID] == triage.drift.check(CLEAN)
    assert report.ways[Verdict.ID].p_value > 0.01 > report.ways[Verdict.OOD].p_value
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page = report.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The way images came" in page
    assert report.ways[Verdict.ID].sentence.split(".")[0] in page


# -- as a detector -------------------------------------------------------------------------------


def test_the_odds_for_adv_are_a_score(triage):
    detector = AdversarialOdds(triage)
    others = [i for i, verdict in enumerate(ORDER) if verdict != Verdict.ADV]
    p = triage.posterior(X)
    torch.testing.assert_close(detector(X), p[:, 2].log() - p[:, others].sum(dim=1).log())


def test_the_detectors_arguments(triage):
    with pytest.raises(ValueError, match="its own"):
        AdversarialOdds(triage, id_fpr=0.1)
    detector = AdversarialOdds(MODEL, look="always")
    assert detector.look == "always"
    detector.look = "never"
    assert detector.triage.look == "never"
    with pytest.raises(ValueError, match="'open', 'always' or 'never'"):
        detector.look = "sometimes"
    with pytest.raises(RequiresFittingException):
        detector(X)


def test_models_of_another_type(triage):
    typed = [[(x.double(), y) for x, y in id_batches(seed)] for seed in (0, 1)]
    other = small(copy.deepcopy(MODEL).double()).fit(*typed, progress=False)
    found = other.predict(X.double())
    # attacks are other ones where gradients differ in the last digits, and so is the rule
    assert float((found == triage.predict(X)).double().mean()) > 0.9
