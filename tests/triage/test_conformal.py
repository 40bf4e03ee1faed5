"""The guarantee, by hand and by simulation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytorch_ood_viyog.triage.rule.conformal import (
    alarm_thresholds,
    conformal_p_values,
    smallest_calibration_set,
)


def test_p_values_by_hand():
    known = torch.tensor([1.0, 2.0, 2.0, 5.0])
    scores = torch.tensor([6.0, 5.0, 3.0, 2.0, 1.0, 0.0])
    expected = torch.tensor([1, 2, 2, 4, 5, 5]).double() / 5
    assert torch.equal(conformal_p_values(known, scores), expected)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 9))
def test_p_values_by_counting(known, score):
    p = conformal_p_values(torch.tensor(sorted(known)).double(), torch.tensor([score]))
    assert p.item() == pytest.approx((1 + sum(k >= score for k in known)) / (len(known) + 1))


@pytest.mark.parametrize(
    ("alpha", "signals", "count"), [(0.05, 1, 19), (0.05, 2, 39), (0.1, 3, 29)]
)
def test_smallest_calibration_set(alpha, signals, count):
    assert smallest_calibration_set(alpha, signals) == count
    assert math.floor(alpha * (count + 1) + 1e-9) == signals


@settings(deadline=None)
@given(st.integers(19, 200), st.floats(0.05, 0.5))
def test_one_signal_gives_the_conformal_quantile(count, alpha):
    scores = torch.randn(count, generator=torch.Generator().manual_seed(count)).double()
    found = alarm_thresholds({"a": scores}, alpha, {"a": 1.0})["a"]
    k = math.ceil((count + 1) * (1 - alpha) - 1e-9)
    assert found == scores.sort().values[k - 1]


def test_cuts_by_hand():
    scores = {
        "a": torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
        "b": torch.tensor([5.0, 9.0, 8.0, 1.0, 7.0, 2.0, 3.0, 4.0, 6.0]),
    }
    # four cuts in turn: a takes sample 0, b takes 1 (9), a takes 2 (7), b takes 4 (7)
    assert alarm_thresholds(scores, 0.4, {"a": 1, "b": 1}) == {"a": 7.0, "b": 7.0}
    # three of four for a: a takes 0, b takes 1, a takes 2 and 3
    assert alarm_thresholds(scores, 0.4, {"a": 3, "b": 1}) == {"a": 6.0, "b": 9.0}


def false_alarm_rate(draw, count, alpha, shares, repeats=400, fresh=200):
    """Mean rate on fresh samples over many calibration sets, and its standard error."""
    generator = torch.Generator().manual_seed(0)
    rates = []
    for _ in range(repeats):
        known, new = draw(count, generator), draw(fresh, generator)
        limits = alarm_thresholds(known, alpha, shares)
        alarms = torch.stack([new[name] > limits[name] for name in limits]).any(dim=0)
        rates.append(alarms.double().mean())
    rates = torch.stack(rates)
    return float(rates.mean()), float(rates.std() / math.sqrt(repeats))


def independent(count, generator):
    return {name: torch.randn(count, generator=generator) for name in "abc"}


def dependent(count, generator):
    common = torch.randn(count, generator=generator)
    own = torch.randn(2, count, generator=generator)
    return {"a": common + 0.3 * own[0], "b": (common - 0.3 * own[1]).exp(), "c": -common}


def heavy_tailed(count, generator):
    values = torch.randn(3, count, generator=generator) / torch.randn(
        3, count, generator=generator
    )
    return dict(zip("abc", values, strict=True))


@pytest.mark.parametrize("draw", [independent, dependent, heavy_tailed])
@pytest.mark.parametrize("count", [59, 150])
def test_the_rate_of_false_alarms_is_what_is_promised(draw, count):
    alpha, shares = 0.05, {"a": 0.25, "b": 0.25, "c": 0.5}
    rate, error = false_alarm_rate(draw, count, alpha, shares)
    promised = math.floor(alpha * (count + 1) + 1e-9) / (count + 1)
    assert abs(rate - promised) < 4 * error
    assert promised <= alpha


def test_ties_only_make_alarms_rarer():
    def coarse(count, generator):
        return {name: v.mul(2).round() for name, v in independent(count, generator).items()}

    rate, error = false_alarm_rate(coarse, 99, 0.1, dict.fromkeys("abc", 1.0))
    assert rate < 0.1 + 3 * error
    rate, _ = false_alarm_rate(lambda n, g: {"a": torch.zeros(n)}, 99, 0.1, {"a": 1.0}, 5)
    assert rate == 0


def test_calibrating_on_other_data_breaks_the_promise():
    generator = torch.Generator().manual_seed(0)
    limits = alarm_thresholds({"a": torch.randn(999, generator=generator) - 1}, 0.05, {"a": 1.0})
    assert (torch.randn(2000, generator=generator) > limits["a"]).double().mean() > 0.15


def test_the_rate_over_calibration_sets_is_beta_distributed():
    # Beta(15, 286) has its 90 % quantile at 0.0664, which the documentation states
    generator = torch.Generator().manual_seed(0)
    normal = torch.distributions.Normal(0, 1)
    limits = [
        alarm_thresholds({"a": torch.randn(300, generator=generator)}, 0.05, {"a": 1.0})["a"]
        for _ in range(1000)
    ]
    rates = 1 - normal.cdf(torch.tensor(limits))
    assert (rates < 0.0664).double().mean().item() == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": torch.zeros(38), "b": torch.zeros(38)}, "39 or more ID samples"),
        ({"a": torch.zeros(50), "b": torch.zeros(51)}, "numbers of samples"),
        ({"a": torch.zeros(50), "b": torch.full((50,), torch.nan)}, "'b' must not be NaN"),
    ],
)
def test_scores_are_checked(scores, message):
    with pytest.raises(ValueError, match=message):
        alarm_thresholds(scores, 0.05, {"a": 1, "b": 1})
