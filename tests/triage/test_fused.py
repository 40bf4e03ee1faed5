"""Fused under the contract, by hand, and as gate."""

import io
import math

import pytest
import torch
from attacked import attacked, id_batches, id_images, trained
from pytorch_ood.api import ModelNotSetException, RequiresFittingException
from pytorch_ood.detector import EnergyBased

from pytorch_ood_viyog import (
    Fused,
    SecondLook,
    Triage,
    Verdict,
    ViyogResidue,
    ViyogTV,
    export_onnx,
)
from pytorch_ood_viyog.testing import DetectorContract

pytestmark = pytest.mark.filterwarnings("ignore:.*of the ID answers change")
MODEL = trained()
X, _ = id_images(1, 1)


def parts():
    return {
        "residue": ViyogResidue(None, input_range=1.0),
        "look": SecondLook(None, purifier="maps", strength=8 / 255),
    }


class TestFused(DetectorContract):
    atol = 5e-2  # sums of surprises; where the noise floor is nearly zero, rounding moves it

    @pytest.fixture
    def detector(self):
        return Fused(trained(), parts(), held_out=0.3)

    @pytest.fixture
    def loader(self):
        return id_batches(copies=2)

    def without_model(self, detector):
        return Fused(None, parts())

    def anomaly(self, x):
        return attacked(trained(), x.float())

    def other_id(self, x):
        return 0.5 * x + 0.25


@pytest.fixture(scope="module")
def fused():
    return Fused(MODEL, parts()).fit(id_batches(), id_batches(seed=3))


def test_fisher_is_the_sum_of_surprises(fused):
    surprises = fused.surprises(X)
    assert torch.allclose(fused(X), surprises["residue"] + surprises["look"])
    assert set(fused.scores(X)) == {"residue", "look"}


def test_stouffer_by_hand():
    detectors = {"residue": ViyogResidue(None), "tv": ViyogTV(None)}
    fused = Fused(MODEL, detectors, method="stouffer").fit(id_batches())
    p_values = [(-values).exp() for values in fused.surprises(X).values()]
    normal = torch.distributions.Normal(0.0, 1.0)
    wanted = sum(normal.icdf(1 - p) for p in p_values) / math.sqrt(2)
    inside = wanted.abs() < 3  # icdf is not exact at its ends
    assert int(inside.sum()) > 30
    assert torch.allclose(fused(X)[inside], wanted[inside], atol=1e-6)


def test_what_is_held_out_is_not_fitted_on():
    """Each ID sample is either fitted on or compared on."""
    detectors = {"tv": ViyogTV(None)}
    fused = Fused(MODEL, detectors, held_out=0.25).fit(id_batches())
    fitted = int(detectors["tv"]._statistics["count"])
    held = len(fused._reference["tv"])
    assert fitted + held == sum(len(y) for _, y in id_batches())
    assert 0.1 < held / (fitted + held) < 0.4


def test_neither_order_nor_batches_matter():
    images, labels = id_images()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(7))
    other = list(zip(images[order].split(31), labels[order].split(31), strict=True))
    one = Fused(MODEL, {"tv": ViyogTV(None)}).fit(id_batches())
    two = Fused(MODEL, {"tv": ViyogTV(None)}).fit(other)
    assert torch.allclose(one(X), two(X), atol=1e-6)


def test_ood_samples_do_not_compare():
    extra = [(torch.rand(20, 3, 8, 8), torch.full((20,), -1))]
    one = Fused(MODEL, {"tv": ViyogTV(None)}).fit(id_batches(), id_batches(3))
    two = Fused(MODEL, {"tv": ViyogTV(None)}).fit(id_batches(), [*id_batches(3), *extra])
    assert torch.equal(one(X), two(X))


def test_state_carries_the_fit_over(fused):
    stream = io.BytesIO()
    torch.save(fused.state_dict(), stream)
    stream.seek(0)
    other = Fused(MODEL, parts()).load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(X), fused(X))
    with pytest.raises(ValueError, match="state must belong to"):
        Fused(MODEL, {"tv": ViyogTV(None)}).load_state_dict(fused.state_dict())


def test_any_detector_of_the_shared_pass_can_take_part():
    detectors = {"energy": EnergyBased(None), "look": SecondLook(None, purifier="maps")}
    assert bool(Fused(MODEL, detectors).fit(id_batches())(X).isfinite().all())


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="method must be 'fisher' or 'stouffer', got 'mean'"):
        Fused(MODEL, parts(), method="mean")
    with pytest.raises(ValueError, match="held_out must be finite"):
        Fused(MODEL, parts(), held_out=0.0)
    with pytest.raises(ModelNotSetException, match="has no model"):
        Fused(None, parts()).predict(X)
    with pytest.raises(RequiresFittingException):
        Fused(MODEL, {"energy": EnergyBased(None)}).predict(X)
    with pytest.raises(ValueError, match=r"Too few ID samples.*Pass a calibration_loader"):
        Fused(MODEL, {"tv": ViyogTV(None)}, held_out=0.001).fit(id_batches(copies=1))


def test_what_is_fitted_already_stays(fused):
    residue = ViyogResidue(MODEL).fit(id_batches(seed=9))
    before = residue(X)
    detectors = {"residue": residue, "tv": ViyogTV(None)}
    for _ in range(2):  # also in a second fit
        both = Fused(MODEL, detectors).fit(id_batches())
        assert torch.equal(both.scores(X)["residue"], before)
    known = Fused(MODEL, {"residue": residue}).fit(id_batches(), id_batches(seed=3))
    assert torch.equal(known.scores(X)["residue"], before)
    # a partner that needs no fit asks for no pass either
    partner = Fused(MODEL, {"residue": residue, "energy": EnergyBased(None)}).fit(id_batches())
    assert torch.equal(partner.scores(X)["residue"], before)


def test_scores_that_are_known_are_fused_without_a_pass(fused):
    assert torch.equal(fused.fuse(fused.scores(X)), fused(X))
    with pytest.raises(RequiresFittingException):
        Fused(MODEL, parts()).fuse({})


@pytest.mark.parametrize(
    ("gate", "router"),
    [
        (lambda: Fused(MODEL, parts()), lambda: ViyogResidue(MODEL)),
        (lambda: None, lambda: Fused(MODEL, parts())),
        (lambda: None, lambda: SecondLook(MODEL, purifier="maps", strength=8 / 255)),
    ],
)
def test_as_gate_and_as_router(gate, router, tmp_path):
    triage = Triage(gate(), router(), id_fpr=0.1).fit(id_batches(), id_batches(seed=3))
    adv = attacked(MODEL, X)
    verdicts = triage.predict(adv)
    found = float((verdicts != int(Verdict.ID)).double().mean())
    assert found > 0.4
    assert int(Verdict.ADV) in verdicts.tolist()
    assert float((triage.predict(X) != int(Verdict.ID)).double().mean()) < 0.3
    state = triage.state_dict()
    other = Triage(gate(), router(), id_fpr=0.1).load_state_dict(state)
    assert torch.equal(other.predict(adv), verdicts)
    pytest.importorskip("onnxscript")
    with pytest.raises(TypeError, match=r"asks the model again|runs by itself"):
        export_onnx(MODEL, triage, tmp_path / "t.onnx", X[:4])


def test_other_routers_are_refused():
    with pytest.raises(TypeError, match="a SecondLook or a Fused, got EnergyBased"):
        Triage(None, EnergyBased(None), model=MODEL)
