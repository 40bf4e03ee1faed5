"""The mathematics of Viyog. What all detectors share is tested in test_detector.py."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytorch_ood_viyog import Viyog
from pytorch_ood_viyog.detectors.viyog import bounded_transform

LARGEST = float(np.finfo(np.float32).max)


def maps_of_norms(norms, dtype=torch.float32):
    """Maps (B, 2, 3, 3) whose infinity norms are given; the extreme value is negative."""
    maps = torch.zeros(len(norms), 2, 3, 3, dtype=dtype)
    maps[:, 1, 2, 0] = -torch.as_tensor(norms, dtype=dtype)
    maps[:, 0, 0, 0] = torch.as_tensor(norms, dtype=dtype) / 2
    return maps


def gate(centred, temperature):
    """The transform of the original method, written out in Python floats."""
    if centred == 0:
        return 0.0
    return math.copysign(1, centred) / (1 + math.exp(-math.exp(abs(centred) / temperature)))


def test_score_by_hand():
    # norms 1 and 3, so b = 2; the score of 1 is +g(1), that of 3 is -g(1), with T = 1
    detector = Viyog(None, temperature=1.0).fit_features(maps_of_norms([1.0, 3.0]))
    assert detector.baseline == 2.0
    expected = 1 / (1 + math.exp(-math.e))
    scores = detector.predict_features(maps_of_norms([1.0, 2.0, 3.0]))
    assert scores.dtype == torch.float64
    assert scores[0].item() == pytest.approx(expected, abs=1e-7)
    assert scores[1].item() == 0
    assert scores[2].item() == pytest.approx(-expected, abs=1e-7)


def test_jump_at_the_baseline():
    detector = Viyog(None).fit_features(maps_of_norms([2.0]))
    below, at, above = detector.predict_features(maps_of_norms([1.999999, 2.0, 2.000001])).tolist()
    limit = 1 / (1 + math.exp(-1))  # 0.731
    assert below == pytest.approx(limit, abs=1e-6)
    assert at == 0
    assert above == pytest.approx(-limit, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 10.0, 1000.0])
def test_formula(temperature):
    norms = torch.rand(50).mul(4).tolist()
    detector = Viyog(None, temperature=temperature).fit_features(maps_of_norms(norms))
    norms = [float(np.float32(n)) for n in norms]
    assert detector.baseline == pytest.approx(math.fsum(norms) / 50, rel=1e-15)
    scores = detector.predict_features(maps_of_norms(norms))
    expected = [-gate(n - detector.baseline, temperature) for n in norms]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-14)


def test_unbounded_score_is_the_negated_centred_norm():
    norms = [0.5, 1.0, 4.5, 1e30]
    detector = Viyog(None, bounded=False).fit_features(maps_of_norms([1.0, 2.0, 3.0]))
    scores = detector.predict_features(maps_of_norms(norms))
    assert scores.tolist() == [2.0 - float(np.float32(n)) for n in norms]


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1000.0])
@pytest.mark.parametrize("baseline", [-1.9, 0.0, 0.5, 1.9])
def test_steps_of_a_trillionth_temperature_keep_their_order(temperature, baseline):
    steps = torch.arange(1, 1000, dtype=torch.float64) * 1e-12
    centre = torch.tensor(-baseline, dtype=torch.float64) * temperature
    values = bounded_transform(steps * temperature, centre, temperature)
    assert bool((values.diff() > 0).all())


@settings(max_examples=300, deadline=None)
@given(
    norms=st.lists(st.floats(0, LARGEST, width=32), min_size=2, max_size=30),
    fitted=st.lists(st.floats(0, LARGEST, width=32), min_size=1, max_size=5),
    temperature=st.floats(1e-3, 1e39),
)
def test_no_rank_is_reversed_at_any_scale(norms, fitted, temperature):
    detector = Viyog(None, temperature=temperature).fit_features(maps_of_norms(fitted))
    scores = detector.predict_features(maps_of_norms(sorted(set(norms))))
    assert bool((scores.diff() <= 0).all())
    assert bool((scores.abs() <= 1).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_step_of_a_half_float_counts(dtype):
    norms = torch.arange(0x3C00, 0x3C00 + 100, dtype=torch.int16).view(torch.float16).to(dtype)
    norms = norms.unique()
    detector = Viyog(None).fit_features(maps_of_norms(norms, dtype))
    scores = detector.predict_features(maps_of_norms(norms, dtype))
    assert scores.dtype == torch.float64
    assert bool((scores.diff() < 0).all())


def test_all_zero_maps():
    detector = Viyog(None).fit_features(maps_of_norms([0.0, 0.0]))
    assert detector.baseline == 0
    scores = detector.predict_features(maps_of_norms([0.0, 1e-9, 1.0]))
    assert scores[0].item() == 0
    assert bool((scores.diff() < 0).all())


def test_baseline_is_summed_in_double_precision():
    # 1e8 + 1 is not a float32; a float32 sum of many such norms drifts
    detector = Viyog(None, bounded=False)
    for _ in range(50):
        detector.partial_fit_features(maps_of_norms([16777216.0, 1.0, 3.0]))
    assert detector.baseline == pytest.approx((16777216 + 4) / 3, rel=1e-15)


def test_hyperparameters_apply_to_a_fitted_detector():
    maps = maps_of_norms([1.0, 2.0, 6.0])
    detector = Viyog(None).fit_features(maps)
    detector.set_hyperparameters(temperature=np.float32(1), bounded=False)
    assert detector.get_hyperparameters() == {"temperature": 1.0, "bounded": False}
    assert detector.predict_features(maps).tolist() == [2.0, 1.0, -3.0]
    detector.bounded = True
    assert detector.predict_features(maps)[0].item() == pytest.approx(-gate(-2, 1.0), abs=1e-7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"temperature": 0}, ValueError, "temperature must be finite and in"),
        ({"temperature": -1.0}, ValueError, "temperature must be finite and in"),
        ({"temperature": math.inf}, ValueError, "temperature must be finite and in"),
        ({"temperature": math.nan}, ValueError, "temperature must be finite and in"),
        ({"temperature": 10**400}, ValueError, "temperature must be finite and in"),
        ({"temperature": True}, TypeError, "temperature must be a number, got True"),
        ({"temperature": "1000"}, TypeError, "temperature must be a number, got '1000'"),
        ({"bounded": 1}, TypeError, "bounded must be True or False, got 1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        Viyog(None, **arguments)
    detector = Viyog(None)
    with pytest.raises(error, match=message):
        detector.set_hyperparameters(**arguments)
    assert detector.get_hyperparameters() == {"temperature": 1000.0, "bounded": True}


def test_maps_that_overflow_are_not_scored():
    # finite weights and inputs, but their product is more than half precision holds
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False)).half().eval()
    torch.nn.init.constant_(model[0].weight, 4.0)
    detector = Viyog(model).fit([torch.ones(2, 1, 3, 3, dtype=torch.float16)])
    x = torch.ones(3, 1, 3, 3, dtype=torch.float16)
    x[1] = 60000
    with pytest.raises(ValueError, match=r"the samples 1\."):
        detector(x)


def test_autocast_applies_as_it_does_to_the_layer():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)).eval()
    x = torch.rand(20, 3, 8, 8)
    detector = Viyog(model).fit([x])
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        scores, maps = detector(x), model(x)
    assert maps.dtype == torch.bfloat16
    torch.testing.assert_close(scores, detector.predict_features(maps))
