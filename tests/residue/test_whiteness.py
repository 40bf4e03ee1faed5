"""Features of whiteness: known answers for white responses, by hand for others."""

import math

import pytest
import torch
from torch import nn

from pytorch_ood_viyog.residue.intent.whiteness import whiteness


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts(features, local, around, quiet, lags):
    """The features, taken apart: log variances, correlations, lags, log kurtosis."""
    pairs = [n * (n - 1) // 2 for n in (local, around)]
    sizes = [local + around, *pairs, *[quiet + around] * lags, quiet + around]
    assert features.shape[1] == sum(sizes)
    return features.split(sizes, dim=1)


def test_white_responses_have_the_known_answer_at_any_strength():
    local, around = normal(2, 6, 60, 60), normal(2, 4, 60, 60, seed=1)
    first, second = (whiteness(s * local, s * around, 4) for s in (0.05, 0.2))
    torch.testing.assert_close(second[:, 10:], first[:, 10:], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        second[:, :10] - first[:, :10], torch.full((2, 10), 2 * math.log(4)).double(),
        rtol=1e-3, atol=1e-3,
    )  # fmt: skip
    variances, *correlations, kurtosis = parts(first, 6, 4, 4, 5)
    assert torch.cat(correlations, dim=1).abs().max() < 0.12
    assert (kurtosis - math.log(3)).abs().max() < 0.25
    # the flattest are chosen by some of these directions, which are a little quieter there
    assert (variances[:, 4:6] - 2 * math.log(0.05)).abs().max() < 0.1


def test_by_hand_where_all_positions_count():
    local = normal(1, 2, 8, seed=2)
    around = normal(1, 1, 8, seed=3)
    variances, pair, _, one, two, kurtosis = parts(whiteness(local, around, 2), 2, 1, 2, 2)
    both = torch.cat([local, around], dim=1)[0]
    torch.testing.assert_close(variances[0], both.square().mean(dim=1).log(), rtol=1e-4, atol=1e-4)
    # each position counts alike: divided by the energy there and beside it
    energies = nn.functional.pad(both.square().mean(dim=0, keepdim=True), (1, 1))
    counts = nn.functional.pad(torch.ones(1, 8), (1, 1)).unfold(1, 3, 1).sum(dim=2)
    alike = both / (energies.unfold(1, 3, 1).sum(dim=2) / counts).sqrt()
    expected = (alike[0] * alike[1]).sum() / (alike[0].norm() * alike[1].norm())
    torch.testing.assert_close(pair[0, 0], expected, rtol=1e-4, atol=1e-6)
    for lag, found in ((1, one), (2, two)):
        here, there = both[:, :-lag], both[:, lag:]
        expected = (here * there).sum(dim=1) / (here.norm(dim=1) * there.norm(dim=1))
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-6)
    expected = both.pow(4).mean(dim=1) / both.square().mean(dim=1).square()
    torch.testing.assert_close(kurtosis[0], expected.log(), rtol=1e-4, atol=1e-4)


def test_only_the_flattest_places_are_read():
    local, around = 0.01 * normal(1, 4, 20, 20), 0.01 * normal(1, 4, 20, 20, seed=1)
    textured = [values.clone() for values in (local, around)]
    for values in textured:
        values[..., :10] *= 100
    flat = whiteness(local[..., 10:], around[..., 10:], 4)[:, :8]
    found = whiteness(*textured, 4)[:, :8]
    assert (found - flat).abs().max() < 0.5
    assert (whiteness(100 * local, 100 * around, 4)[:, :8] - flat).min() > 5


def test_rounding_of_a_constant_image_is_no_correlation():
    """Exported files round otherwise: 0 here and 1 there would be another image."""
    rounding = 2e-7 * normal(1, 1, 12, 12)
    features = whiteness(rounding.expand(1, 6, 12, 12), rounding.expand(1, 4, 12, 12), 4)
    _, *correlations, _ = parts(features, 6, 4, 4, 5)
    assert torch.cat(correlations, dim=1).abs().max() < 0.01


@pytest.mark.parametrize("stripes", [False, True])
def test_rounding_does_not_choose_among_equally_flat_places(stripes):
    """Exported files round otherwise; a place at the border has fewer neighbours further on."""
    image = 0.26 * torch.ones(1, 1, 5, 5, dtype=torch.float64)
    image[..., 1::2] *= -1 if stripes else 1
    found = []
    for seed in range(2):
        rounded = [image * (1 + 1e-7 * normal(1, n, 5, 5, seed=seed)) for n in (6, 4)]
        found.append(whiteness(*rounded, 4))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1,), (3,), (9,), (1, 1), (2, 7), (3, 4, 5)])
def test_any_axes_and_sizes(shape):
    for scale in (0.0, 1e-9, 1.0, 1e30):
        found = whiteness(scale * normal(2, 3, *shape), scale * normal(2, 2, *shape), 2)
        assert torch.isfinite(found).all()
        assert found.shape[0] == 2


def test_constant_windows_are_left_out():
    local, around = 0.01 * normal(2, 6, 40, 40), 0.01 * normal(2, 4, 40, 40, seed=1)
    flat = torch.zeros(2, 40, 40, dtype=torch.bool)
    torch.testing.assert_close(
        whiteness(local, around, 4, flat), whiteness(local, around, 4), rtol=1e-6, atol=1e-6
    )
    flat[:, :, 25:] = True
    barred = [torch.where(flat[:, None], 0.0, z) for z in (local, around)]
    found = whiteness(*barred, 4, flat)
    expected = whiteness(local[..., :25], around[..., :25], 4)
    assert (found - expected).abs().max() < 0.25  # the last column has other neighbours
    assert (whiteness(*barred, 4) - expected).abs().max() > 2


@pytest.mark.parametrize("side", [2, 3, 4, 6, 11])
def test_no_constant_windows_are_none_to_leave_out(side):
    """Images that have none are read alike beside images that have some, and in a graph."""
    generator = torch.Generator().manual_seed(side)
    local, around = (torch.randn(3, 5, side, side, generator=generator) for _ in range(2))
    flat = torch.zeros(3, side, side, dtype=torch.bool)
    expected = whiteness(0.01 * local, 0.01 * around, 3)
    torch.testing.assert_close(whiteness(0.01 * local, 0.01 * around, 3, flat), expected)
