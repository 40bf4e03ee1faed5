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


@settings(deadline=None)
@given(st.integers(19, 200), st.floats(0.05, 0.5))
def test_threshold_is_the_conformal_quantile(count, alpha):
    scores = torch.randn(count, generator=torch.Generator().manual_seed(count)).double()
    k = math.ceil((count + 1) * (1 - alpha) - 1e-9)
    assert conformal_threshold(scores, alpha) == scores.sort().values[k - 1]


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
