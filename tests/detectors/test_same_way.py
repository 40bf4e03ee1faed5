"""SameWay: exact p-values, power, streams that raise few false alarms, merging."""

import numpy as np
import pytest
import torch
from test_through import natural, network
from torch import nn

from pytorch_ood_viyog import SameWay, ViyogResidue
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


def fitted(count=120, **kwargs):
    return SameWay(Stub(None, layer=nn.Conv2d(3, 8, 3)), **kwargs).fit_readings(rows(count, 0))


def test_p_values_of_the_same_way_are_uniform():
    p = []
    for seed in range(1, 301):
        same = SameWay(Stub(None, layer=nn.Conv2d(3, 8, 3)), permutations=199)
        same.fit_readings(rows(60, 1000 + seed))
        p.append(same.check_readings(rows(20, seed)).p_value)
    for level in (0.05, 0.2, 0.5):
        share = float(np.mean(np.array(p) <= level))
        assert share == pytest.approx(level, abs=4 * (level * (1 - level) / 300) ** 0.5)


def test_a_shift_is_found_and_named():
    moved = rows(50, 5)
    moved[:, 7] += 8
    found = fitted().check_readings(moved)
    assert found.p_value <= 0.001
    assert found.reading == "feature 7"
    assert found.shift > 4
    assert "Finer than the calibration images" in str(found)
    moved[:, 7] -= 16
    assert "Smoother than the calibration images" in str(fitted().check_readings(moved))
    assert "No sign that" in str(fitted().check_readings(rows(50, 6)))


def test_a_stream_raises_few_false_alarms_whatever_its_batches():
    alarms = []
    for seed in range(10, 18):
        same = SameWay(Stub(None, layer=nn.Conv2d(3, 8, 3)), permutations=399)
        same.fit_readings(rows(200, seed))
        for part in np.array_split(rows(1000, 100 + seed), 37):
            alarms += same.update_readings(part)
        assert same.seen == 1000
    assert len(alarms) <= 4  # 0.8 expected
    other = fitted(400, block=50, permutations=399)
    other.update_readings(rows(70, 8))
    assert other.update_readings(rows(80, 9, shift=4.0))


def test_parts_of_a_stream_merge():
    one, other = fitted(), fitted()
    one.update_readings(rows(30, 3, shift=4.0))
    other.update_readings(rows(75, 4, shift=4.0))
    assert len(one.merge(other)) == 1
    assert (one.seen, other.seen) == (105, 0)
    with pytest.raises(ValueError, match="the same calibration images"):
        one.merge(fitted(90))


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
    with pytest.raises(ValueError, match="permutations must be at least 200"):
        SameWay(detector, permutations=99)


def test_images_that_came_another_way():
    detector = ViyogResidue(network()).fit([natural(96)])
    same = SameWay(detector).fit([(natural(80, seed=1), torch.zeros(80))])
    x = natural(50, seed=2)
    assert len(detector.reading_names) == detector.readings(x[:1]).shape[1]
    assert same.check(x).p_value > 0.01
    for way in ("JPEG 75", "resize 0.5 lanczos", "sharpening 100"):
        assert same.check(apply_ways(way, x)).p_value < 0.01
    assert same.update(x) == []
