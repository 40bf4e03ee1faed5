"""Views against other people's, and by hand."""

import pytest
import torch

from pytorch_ood_viyog.images.views import bilateral, median_of_four, mirrored, moved


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


def test_moved_and_mirrored_by_hand() -> None:
    assert mirrored(torch.tensor([[[[1, 2, 3]]]])).tolist() == [[[[3, 2, 1]]]]
    x = torch.arange(20.0).view(1, 1, 4, 5)
    # one pixel down and to the right; row 1 and column 1 are reflected in
    expected = [[6, 5, 6, 7, 8], [1, 0, 1, 2, 3], [6, 5, 6, 7, 8], [11, 10, 11, 12, 13]]
    assert moved(x).tolist() == [[expected]]
    x = torch.rand(2, 3, 50, 100)  # by six percent
    assert torch.equal(moved(x)[:, :, 3:, 6:], x[:, :, :-3, :-6])
    row = x[:, :, :1]  # of pixels, is moved along it
    assert torch.equal(moved(row)[..., 6:], row[..., :-6])
