"""Thresholds: verdicts by hand, false alarms as promised."""

import pytest
import torch

from pytorch_ood_viyog.triage.populations.verdict import ORDER, Verdict
from pytorch_ood_viyog.triage.rule.thresholds import (
    ALARMS,
    Thresholds,
    fewest_calibration_images,
)

ID, OOD, ADV, NOISY = range(4)


def draw(count, generator):
    """Log-odds of anything: heavy tails, and verdicts that depend on each other."""
    z = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return z.sinh() + z[:, :1]


def fixed(alarm=1.0, least=0.5):
    return Thresholds(
        torch.tensor(alarm).double(), torch.tensor(least).double(), torch.zeros(3, 1)
    )


@pytest.mark.parametrize(
    ("z", "verdict"),
    [
        ([0.0, 0.9, -9.0, -9.0], Verdict.ID),
        ([0.0, 0.9, -9.0, 1.3], Verdict.NOISY),  # e^.9 + .1 e^1.3 = 2.83, above e
        ([0.0, 0.3, 0.2, -9.0], Verdict.ID),  # e^.3 + e^.2 = 2.57
        ([0.0, 0.4, 0.3, -9.0], Verdict.OOD),  # e^.4 + e^.3 = 2.84
        ([0.0, 1.1, -9.0, -9.0], Verdict.OOD),
        ([0.0, -9.0, 1.1, -9.0], Verdict.ADV),
        ([0.0, -9.0, -9.0, 3.2], Verdict.ID),  # .1 e^3.2 = 2.45
        ([0.0, -9.0, -9.0, 3.4], Verdict.NOISY),  # .1 e^3.4 = 3.00
        ([0.0, 1.1, 5.0, -9.0], Verdict.ADV),
        ([0.0, -9.0, 3.3, 3.1], Verdict.NOISY),  # not far enough above NOISY
        ([0.0, 3.2, 3.3, 3.1], Verdict.OOD),
    ],
)
def test_verdicts_by_hand(z, verdict):
    assert fixed().verdicts(torch.tensor([z]).double()).tolist() == [int(verdict)]


def test_fewest_images():
    assert fewest_calibration_images(0.05, 0.05) == 19
    assert fewest_calibration_images(0.5, 0.01) == 99


@pytest.mark.parametrize("count", [19, 100, 300])
def test_new_id_images_raise_no_more_alarms_than_asked_for(count):
    generator = torch.Generator().manual_seed(count)
    alarms, called = [], []
    for _ in range(300):
        known = Thresholds.of(draw(count, generator), draw(count, generator), 0.05, 0.05)
        found = known.verdicts(draw(200, generator))
        alarms.append(float((found != int(Verdict.ID)).double().mean()))
        called.append(float((found == int(Verdict.ADV)).double().mean()))
    # standard error of the mean below .002
    assert sum(alarms) / len(alarms) <= 0.05 + 0.005
    assert sum(called) / len(called) <= 0.05 + 0.005


def test_p_values_are_ranks():
    generator = torch.Generator().manual_seed(0)
    clean = draw(99, generator)
    known = Thresholds.of(clean, clean, 0.05, 0.05)
    z = clean[:5]
    found = known.p_values(z)
    assert list(found) == [verdict.name for verdict in ALARMS]
    for name, place in (("OOD", OOD), ("ADV", ADV), ("NOISY", NOISY)):
        odds = clean[:, place] - clean[:, ID]
        expected = [(1 + int((odds >= o).sum())) / 100 for o in odds[:5]]
        assert found[name].tolist() == pytest.approx(expected)


def test_thresholds_do_not_depend_on_the_order():
    generator = torch.Generator().manual_seed(0)
    clean, changed = draw(100, generator), draw(100, generator)
    one = Thresholds.of(clean, changed, 0.05, 0.05)
    two = Thresholds.of(clean.flip(0), changed.flip(0), 0.05, 0.05)
    assert torch.equal(one.alarm, two.alarm)
    assert torch.equal(one.least_adv, two.least_adv)
    assert [Verdict.ID, *ALARMS] == list(ORDER)


def test_too_few_images():
    z = torch.zeros(18, 4).double()
    with pytest.raises(ValueError, match="must be of 19 or more ID samples"):
        Thresholds.of(z, z, 0.05, 0.05)
