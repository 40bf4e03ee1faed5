"""Quantiles that are not searched for among all positions."""

import pytest
import torch

from pytorch_ood_viyog.residue.features import quantile

fractions = pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5])


@fractions
def test_of_few_positions_it_is_exact(fraction):
    values = torch.rand(3, 2, 101)
    found = quantile(values, fraction)
    expected = values.quantile(round(fraction * 100) / 100, dim=2)
    torch.testing.assert_close(found, expected)


@fractions
@pytest.mark.parametrize("positions", [300, 1000, 9000])
def test_of_many_it_is_near_the_quantile(fraction, positions):
    generator = torch.Generator().manual_seed(0)
    found = quantile(torch.rand(200, 1, positions, generator=generator), fraction)
    assert found.mean() == pytest.approx(fraction, abs=0.05)
    # a quarter of the positions at worst, searched exactly, spread as much
    assert found.std() < 2 * (fraction * (1 - fraction) / positions) ** 0.5 + 0.01


def test_what_fills_a_third_of_the_image_does_not_reach_the_low_quantiles():
    values = torch.rand(1, 1, 900)
    with_object = values.clone()
    with_object[:, :, :300] += 100
    assert quantile(with_object, 0.1) < 1
    assert quantile(with_object, 0.5) < 1
