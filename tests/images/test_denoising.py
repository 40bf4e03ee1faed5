"""Filters against other people's, and by hand."""

import numpy as np
import pytest
import torch

from pytorch_ood_viyog.images.denoising import bilateral, median, median_of_four


def test_median_is_numpys():
    x = torch.rand(2, 3, 7, 9)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    expected = torch.from_numpy(np.median(windows, axis=(4, 5)))
    assert torch.equal(median(x), expected)


def test_bilateral_by_the_formula():
    x = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    strength, (row, column) = 0.2, (2, 3)
    total, weights = torch.zeros(3, dtype=torch.float64), 0.0
    for i in range(row - 2, row + 3):
        for j in range(column - 2, column + 3):
            colour = (x[0, :, i, j] - x[0, :, row, column]).square().mean()
            apart = ((i - row) ** 2 + (j - column) ** 2) / (2 * 1.5**2)
            weight = torch.exp(-apart - colour / (2 * strength**2))
            total, weights = total + weight * x[0, :, i, j], weights + weight
    torch.testing.assert_close(bilateral(x, strength)[0, :, row, column], total / weights)


@pytest.mark.parametrize("look", [bilateral, median])
def test_flat_images_and_strong_edges_stay(look):
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1
    torch.testing.assert_close(look(x), x)
    torch.testing.assert_close(look(torch.full((2, 3, 5, 5), 0.3)), torch.full((2, 3, 5, 5), 0.3))
    noisy = 0.5 + 0.01 * torch.randn(1, 1, 32, 32)
    assert float(look(noisy).std()) < 0.7 * float(noisy.std())


def test_each_image_has_its_own_strength():
    x, strengths = torch.rand(3, 3, 6, 5), torch.tensor([0.01, 0.1, 1.0])
    alone = torch.cat([bilateral(x[i : i + 1], float(s)) for i, s in enumerate(strengths)])
    torch.testing.assert_close(bilateral(x, strengths), alone)


def test_bilateral_at_a_corner():
    """Pixels beyond the border are those at it."""
    x = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    wide = torch.nn.functional.pad(x, (4,) * 4, mode="replicate")
    torch.testing.assert_close(bilateral(x), bilateral(wide)[:, :, 4:-4, 4:-4])


def test_median_of_four_is_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(2, 3, 7, 9)
    expected = ndimage.median_filter(x.numpy(), size=(1, 1, 2, 2))
    assert torch.equal(median_of_four(x), torch.from_numpy(expected))
