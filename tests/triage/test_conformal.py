"""The guarantee, by hand and by simulation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytorch_ood_viyog.triage.rule.conformal import (
    conformal_p_values,
    conformal_threshold,
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


@pytest.mark.parametrize(("alpha", "count"), [(0.05, 19), (0.1, 9), (0.3, 3)])
def test_smallest_calibration_set(alpha, count):
    assert smallest_calibration_set(alpha) == count
    conformal_threshold(torch.arange(float(count)), alpha)
    with pytest.raises(ValueError, match=f"{count} or more ID samples"):
        conformal_threshold(torch.arange(float(count - 1)), alpha)


def test_threshold_by_hand():
    scores = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    assert conformal_threshold(scores.flip(0), 0.1) == 9  # nobody may be above
    assert conformal_threshold(scores, 0.4) == 6  # three of ten


@settings(deadline=None)
@given(st.integers(19, 200), st.floats(0.05, 0.5))
def test_threshold_is_the_conformal_quantile(count, alpha):
    scores = torch.randn(count, generator=torch.Generator().manual_seed(count)).double()
    k = math.ceil((count + 1) * (1 - alpha) - 1e-9)
    assert conformal_threshold(scores, alpha) == scores.sort().values[k - 1]


def false_alarm_rate(draw, count, alpha, repeats=400, fresh=200):
    """Mean rate on fresh samples over many calibration sets, and its standard error."""
    generator = torch.Generator().manual_seed(0)
    rates = []
    for _ in range(repeats):
        limit = conformal_threshold(draw(count, generator), alpha)
        rates.append((draw(fresh, generator) > limit).double().mean())
    rates = torch.stack(rates)
    return float(rates.mean()), float(rates.std() / math.sqrt(repeats))


def normal(count, generator):
    return torch.randn(count, generator=generator)


def heavy_tailed(count, generator):
    values = torch.randn(2, count, generator=generator)
    return values[0] / values[1]


@pytest.mark.parametrize("draw", [normal, heavy_tailed])
@pytest.mark.parametrize("count", [59, 150])
def test_the_rate_of_false_alarms_is_what_is_promised(draw, count):
    rate, error = false_alarm_rate(draw, count, 0.05)
    promised = math.floor(0.05 * (count + 1) + 1e-9) / (count + 1)
    assert abs(rate - promised) < 4 * error
    assert promised <= 0.05


def test_ties_only_make_alarms_rarer():
    rate, error = false_alarm_rate(lambda n, g: normal(n, g).mul(2).round(), 99, 0.1)
    assert rate < 0.1 + 3 * error
    rate, _ = false_alarm_rate(lambda n, g: torch.zeros(n), 99, 0.1, 5)
    assert rate == 0


def test_calibrating_on_other_data_breaks_the_promise():
    generator = torch.Generator().manual_seed(0)
    limit = conformal_threshold(torch.randn(999, generator=generator) - 1, 0.05)
    assert (torch.randn(2000, generator=generator) > limit).double().mean() > 0.15


def test_the_rate_over_calibration_sets_is_beta_distributed():
    # Beta(15, 286) has its 90 % quantile at 0.0664, which the documentation states
    generator = torch.Generator().manual_seed(0)
    normal = torch.distributions.Normal(0, 1)
    limits = [
        conformal_threshold(torch.randn(300, generator=generator), 0.05) for _ in range(1000)
    ]
    rates = 1 - normal.cdf(torch.tensor(limits))
    assert (rates < 0.0664).double().mean().item() == pytest.approx(0.9, abs=0.04)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="must not be NaN"):
        conformal_threshold(torch.full((50,), torch.nan), 0.05)
