"""Bootstrap metrics against pytorch-ood's on the resampled data itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_ood.metrics import OODMetrics

from pytorch_ood_viyog.evaluation.bootstrap import (
    METRICS,
    metrics_with_intervals,
    resample,
    weighted_metrics,
)


def pytorch_ood(scores, positive):
    return OODMetrics().update(scores, -positive.long()).compute()


@given(
    negatives=st.lists(st.integers(-3, 3), min_size=2, max_size=12),
    positives=st.lists(st.integers(-3, 3), min_size=2, max_size=12),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:AUTC is undefined")
def test_every_resample_has_the_metrics_of_pytorch_ood(negatives, positives, seed):
    scores = torch.tensor([*negatives, *positives], dtype=torch.float64)
    positive = torch.arange(len(scores)) >= len(negatives)
    counts = torch.cat([resample(len(negatives), 4, seed), resample(len(positives), 4, seed)], 1)
    ours = weighted_metrics(scores, positive, counts)
    for r, row in enumerate(counts.long()):
        expected = pytorch_ood(scores.repeat_interleave(row), positive.repeat_interleave(row))
        for name in METRICS:
            value = torch.tensor(expected[name], dtype=torch.float64)
            torch.testing.assert_close(ours[name][r], value, equal_nan=True, msg=name)


def test_by_hand():
    # negatives 1 2 3, positives 2 4: 4 beats all three, 2 beats 1 and ties with 2
    values = metrics_with_intervals(torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 4]), None)
    assert values["AUROC"] == pytest.approx((3 + 1 + 0.5) / 6)
    # 95 % of two positives are both: from 2 upwards two of three negatives are accepted
    assert values["FPR95TPR"] == pytest.approx(2 / 3)
    assert set(values) == set(METRICS)


def test_counts_are_a_resample():
    counts = resample(50, 200, seed=3)
    assert counts.shape == (200, 50)
    assert (counts.sum(dim=1) == 50).all()
    # the chance that a sample is missing is (1 - 1/50)^50
    assert float((counts == 0).float().mean()) == pytest.approx(0.98**50, abs=0.01)
    assert torch.equal(counts, resample(50, 200, seed=3))
    assert not torch.equal(counts, resample(50, 200, seed=4))


def test_intervals_match_the_known_spread_of_auroc():
    """For two normals the variance of AUROC is known by Hanley and McNeil."""
    generator = torch.Generator().manual_seed(0)
    n = 400
    negative = torch.randn(n, generator=generator)
    positive = torch.randn(n, generator=generator) + 1
    counts = resample(n, 1000, 1), resample(n, 1000, 2)
    values = metrics_with_intervals(negative, positive, counts)
    area = values["AUROC"]
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n - 1) * (q1 + q2 - 2 * area**2)
    deviation = (variance / n**2) ** 0.5
    assert values["AUROC low"] < area < values["AUROC high"]
    width = values["AUROC high"] - values["AUROC low"]
    assert width == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_many_samples_are_worked_on_in_parts(monkeypatch):
    negative, positive = torch.arange(30.0), torch.arange(15.0, 40.0)
    counts = resample(30, 20, 0), resample(25, 20, 1)
    whole = metrics_with_intervals(negative, positive, counts)
    monkeypatch.setattr("pytorch_ood_viyog.evaluation.bootstrap._CHUNK", 100)
    assert metrics_with_intervals(negative, positive, counts) == whole


def test_nan_and_empty_classes_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        metrics_with_intervals(torch.tensor([float("nan")]), torch.tensor([1.0]), None)
    with pytest.raises(ValueError, match="both"):
        metrics_with_intervals(torch.tensor([1.0]), torch.empty(0), None)
