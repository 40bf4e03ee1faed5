"""SameWay: exact p-values, power, streams that raise few false alarms, merging."""

import numpy as np
import pytest
import torch
from test_through import natural, network
from torch import nn

from pytorch_ood_viyog import SameWay, ViyogResidue
from pytorch_ood_viyog.detectors.way_stream import WayStream
from pytorch_ood_viyog.images import apply_ways

FEATURES = 12


class Stub(ViyogResidue):
    """Names of features without a fit."""

    reading_names = [f"feature {i}" for i in range(FEATURES)]  # noqa: RUF012


def rows(count, seed, shift=0.0):
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(FEATURES, FEATURES))
    fixed = np.random.default_rng(99).normal(size=mixed.shape)
    return generator.standard_t(5, size=(count, FEATURES)) @ fixed + shift


def fitted(seed=0, count=150, permutations=199, **kwargs):
    same = SameWay(Stub(None, layer=nn.Conv2d(3, 8, 3)), permutations=permutations, **kwargs)
    return same.fit_readings(rows(count, seed))


def test_p_values_of_the_same_way_are_uniform():
    p = []
    for seed in range(1, 301):
        p.append(fitted(1000 + seed, 60, permutations=99).check_readings(rows(20, seed)).p_value)
    for level in (0.05, 0.2, 0.5):
        share = float(np.mean(np.array(p) <= level))
        assert share == pytest.approx(level, abs=4 * (level * (1 - level) / 300) ** 0.5)


def test_a_shift_is_found_and_named():
    moved = rows(50, 5)
    moved[:, 7] += 8
    found = fitted(permutations=999).check_readings(moved)
    assert found.p_value <= 0.001
    assert found.reading == "feature 7"
    assert found.shift > 4
    assert "Finer than the calibration images" in str(found)
    moved[:, 7] -= 16
    assert "Smoother than the calibration images" in str(fitted().check_readings(moved))
    assert "No sign that" in str(fitted().check_readings(rows(50, 6)))


@pytest.mark.parametrize("count", [30, 300])
def test_false_alarms_are_as_rare_as_asked_given_the_calibration_images(count):
    alarms = []
    for seed in range(20):
        same = fitted(seed, count, false_alarm_every=200)
        alarms.append(len(same.update_readings(rows(2000, 500 + seed))))
    # of 20 calibrations one may have more than one alarm in 200 images; heavy tails included
    assert sum(found > 10 for found in alarms) <= 3
    assert sum(alarms) <= 20 * 10


def test_means_of_calibration_images_are_bounded_together():
    failures = 0
    for seed in range(40):
        stream = WayStream.of(rows(80, seed), 0)
        means = stream.scores(rows(4000, 1000 + seed)).mean(axis=0)
        failures += bool((means > stream.bounds + 0.03).any())
    assert failures <= 6  # 2 expected at most


def test_evidence_by_hand():
    stream = WayStream(
        np.zeros(1), np.ones(1), np.zeros((1, 0)), np.full(2, 0.6), np.zeros((2, 3))
    )
    reading = np.array([[np.arctanh(0.5)]])  # scores .75 and .25
    found, count = stream.seen(reading, 100)
    bets = np.array([0.2, 0.5, 0.9])
    expected = np.stack([1 + bets * (score / 0.6 - 1) for score in (0.75, 0.25)])
    np.testing.assert_allclose(found.evidence, expected)
    assert count == 1
    found, count = found.seen(np.repeat(reading, 500, axis=0), 100)
    assert found.reached(100)
    assert 1 < count < 40
    assert found.emptied().joined(stream).evidence.sum() == 0


def test_a_stream_finds_another_way_whatever_its_batches():
    for size in (1, 7, 200):
        same = fitted(3)
        assert same.update_readings(rows(300, 8)) == []
        moved = rows(200, 9)
        moved[:, 7] += 25
        alarms = [a for part in np.split(moved, range(size, 200, size)) for a in
                  same.update_readings(part)]  # fmt: skip
        assert len(alarms) >= 1
        assert alarms[0].reading == "feature 7"
        assert alarms[0].count == 50
        assert same.seen == 500


def test_parts_of_a_stream_merge():
    moved = rows(45, 3)
    moved[:, 7] += 25
    one, other, whole = fitted(3), fitted(3), fitted(3)
    for same, part in ((one, moved[:24]), (other, moved[24:])):
        assert same.update_readings(part) == []
    found = one._stream.joined(other._stream)
    one.merge(other)
    np.testing.assert_allclose(one._stream.evidence, found.evidence)
    assert (one.seen, other.seen) == (45, 0)
    assert one.update_readings(moved)
    assert whole.update_readings(np.concatenate([moved, moved]))
    with pytest.raises(ValueError, match="the same calibration images"):
        one.merge(fitted(3, 90))


def test_wrong_use_is_refused():
    detector = Stub(None, layer=nn.Conv2d(3, 8, 3))
    with pytest.raises(ValueError, match="A check needs 10 images or more, got 9"):
        fitted().check_readings(rows(9, 1))
    with pytest.raises(ValueError, match="needs 30 calibration images or more, got 29"):
        SameWay(detector).fit_readings(rows(29, 1))
    with pytest.raises(RuntimeError, match=r"SameWay is not fitted. Call fit\(\)"):
        SameWay(detector).update_readings(rows(50, 1))
    with pytest.raises(TypeError, match="residue must be a ViyogResidue, got Conv2d"):
        SameWay(nn.Conv2d(3, 8, 3))
    with pytest.raises(ValueError, match="false_alarm_every must be"):
        SameWay(detector, false_alarm_every=99)


def test_images_that_came_another_way():
    detector = ViyogResidue(network()).fit([natural(96)])
    same = SameWay(detector).fit([(natural(80, seed=1), torch.zeros(80))])
    x = natural(50, seed=2)
    assert len(detector.reading_names) == detector.readings(x[:1]).shape[1]
    assert same.check(x).p_value > 0.01
    for way in ("JPEG 75", "resize 0.5 lanczos", "sharpening 100"):
        assert same.check(apply_ways(way, x)).p_value < 0.01
    assert same.update(x) == []
