"""Filters by hand: constants stay, edges stay, noise goes."""

import pytest
import torch
from scipy import ndimage

from pytorch_ood_viyog.images.denoising import bilateral, median


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_median_is_scipys(channels):
    x = torch.rand(2, channels, 9, 11, generator=torch.Generator().manual_seed(0))
    expected = ndimage.median_filter(x.numpy(), size=(1, 1, 3, 3), mode="nearest")
    torch.testing.assert_close(median(x), torch.from_numpy(expected))


def test_bilateral_by_its_formula():
    x = torch.rand(1, 2, 6, 7, generator=torch.Generator().manual_seed(1)).double()
    sigma, row, column = 0.2, 3, 2
    total, weights = torch.zeros(2, dtype=torch.float64), 0.0
    for i in range(row - 2, row + 3):
        for j in range(column - 2, column + 3):
            near = x[0, :, i, j]
            colour = (near - x[0, :, row, column]).square().mean()
            apart = (i - row) ** 2 + (j - column) ** 2
            weight = torch.exp(-colour / (2 * sigma**2) - torch.tensor(apart / (2 * 1.5**2)))
            total, weights = total + weight * near, weights + weight
    torch.testing.assert_close(bilateral(x, sigma)[0, :, row, column], total / weights)


@pytest.mark.parametrize("denoise", [bilateral, median])
def test_constants_stay_and_edges_stay(denoise):
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(denoise(flat), flat)
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    torch.testing.assert_close(denoise(edge), edge, atol=1e-6, rtol=0)


def test_bilateral_takes_noise_of_its_strength():
    x = torch.full((1, 3, 32, 32), 0.5)
    noisy = x + 4 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    assert float(bilateral(noisy, 8 / 255).std()) < 0.6 * float(noisy.std())
