"""Distances of two answers, and their surprise among ID samples, by hand and by their laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pytorch_ood_viyog.looks.answers import log_odds, lost_odds, softmax_distance, surprise
from pytorch_ood_viyog.looks.comparison import KnownAnswers, Reference, least_overruling

LOGITS = arrays.arrays(np.float32, (3, 4), elements=st.floats(-50, 50, width=32))


def test_distance_by_hand():
    first = torch.tensor([[math.log(3.0), 0.0]])  # 3/4 and 1/4
    second = torch.tensor([[0.0, 0.0]])
    assert float(softmax_distance(first, second)) == pytest.approx(0.5)


def test_lost_odds_by_hand():
    first = torch.tensor([[2.0, 0.0, 0.0]])
    second = torch.tensor([[0.0, 1.0, 1.0]])
    wanted = (2 - math.log(2)) - (0 - math.log(2 * math.e))
    assert float(lost_odds(first, second)) == pytest.approx(wanted)


@given(LOGITS, LOGITS)
def test_laws(one, other):
    first, second = torch.tensor(one), torch.tensor(other)
    distance = softmax_distance(first, second)
    assert bool(((distance >= 0) & (distance <= 2 + 1e-9)).all())
    assert torch.equal(distance, softmax_distance(second, first))
    assert float(lost_odds(first, first).abs().max()) == 0
    # probabilities do not know the level of logits; powers of two keep ties and order exact
    surest = first.argmax(dim=1, keepdim=True)
    clear = first.double().scatter_add(1, surest, torch.ones(3, 1).double())
    shifted = lost_odds(clear + 4, second.double() - 8)
    assert torch.allclose(shifted, lost_odds(clear, second), atol=1e-6)


def test_odds_do_not_saturate_where_probabilities_do():
    logits = torch.tensor([[1e4, 0.0], [2e4, 0.0]])
    assert log_odds(logits, torch.tensor([0, 0])).tolist() == [1e4, 2e4]


# -- surprise ---------------------------------------------------------------------------------


def test_surprise_is_that_of_the_rank():
    reference = torch.arange(99, dtype=torch.float64)  # far apart: no blur but on ties
    # 50 of 99 are larger than 48.5 and 99 - 90 than 89.5
    found = surprise(reference, torch.tensor([-1e3, 48.5, 89.5]))
    wanted = [-math.log(100 / 100), -math.log(51 / 100), -math.log(10 / 100)]
    # the logistic counts half a step to either side: far less than a rank
    assert found.tolist() == pytest.approx(wanted, abs=0.02)


def test_the_tail_goes_on_exponentially():
    reference = torch.arange(100, dtype=torch.float64)  # 95 is the limit, 2 the mean excess
    near, far = surprise(reference, torch.tensor([95.0, 105.0])).tolist()
    assert far - near == pytest.approx(10 / 2)


@given(st.integers(2, 60), st.integers(0, 2**31))
def test_surprise_rises_with_the_score(count, seed):
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(count, generator=generator, dtype=torch.float64).sort().values
    found = surprise(reference, torch.linspace(-5, 50, 111, dtype=torch.float64))
    assert bool((found.diff() >= -1e-12).all())
    assert bool(found.isfinite().all())
    assert float(found[0]) == pytest.approx(0, abs=1e-9)


def test_a_constant_reference_gives_no_nan():
    found = surprise(torch.zeros(10, dtype=torch.float64), torch.tensor([-1.0, 0.0, 1.0]))
    assert bool(found.isfinite().all())
    assert float(found[2]) > float(found[1]) > float(found[0])


def test_scores_of_id_have_mean_0_and_standard_deviation_1():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(200, 5, generator=generator)
    second = first + 0.1 * torch.randn(200, 5, generator=generator)
    scores = Reference.of(first, second).scores(first, second)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-9)
    assert float(scores.std(correction=0)) == pytest.approx(1)


# -- which answers overrule ----------------------------------------------------------------------


def test_least_overruling_by_hand():
    distance = torch.tensor([0.3, 1.9, 0.2, 0.8, 1.2, 0.1, 0.0, 0.4, 0.5])
    changed = torch.tensor([True, False, True, True, True, False, False, False, False])
    assert float(least_overruling(distance, changed, 0.1)) == pytest.approx(1.2)  # one of ten
    assert float(least_overruling(distance, changed, 0.2)) == pytest.approx(0.8)
    assert float(least_overruling(distance, changed, 0.5)) == -math.inf  # fewer changed
    assert float(least_overruling(distance, changed, 0.05)) == math.inf  # too few to promise
    assert float(least_overruling(distance, changed, 1.0)) == -math.inf


def test_id_answers_are_overruled_as_seldom_as_promised():
    """The mean over calibration sets is the conformal bound, to sampling error."""
    generator = torch.Generator().manual_seed(3)
    first = 3 * torch.randn(20_000, 4, generator=generator)
    second = first + 2 * torch.randn(20_000, 4, generator=generator)
    changed = float((first.argmax(1) != second.argmax(1)).double().mean())
    assert changed > 0.2, "there would be nothing to promise"
    reference = Reference.of(first[:200], second[:200])
    shares = []
    for start in range(1000, 19_000, 99):
        part = slice(start, start + 99)
        known = KnownAnswers.of(reference, first[part], second[part], 0.05)
        shares.append(known.overruled(first[-1000:], second[-1000:]).double().mean())
    assert 0.04 < float(torch.stack(shares).mean()) < 0.06
