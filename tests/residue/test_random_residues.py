"""Random signs, blurred, within the budget."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from pytorch_ood_viyog.residue.random_residues import smooth_signs


def signs(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, shape, generator=generator) * 2 - 1


@pytest.mark.parametrize("shape", [(2, 3, 40), (2, 3, 20, 13), (1, 2, 12, 9, 7)])
def test_a_gaussian_of_length_one_clipped(shape):
    x, width = signs(*shape), 1.5
    axes = tuple(range(2, len(shape)))
    blurred = gaussian_filter(x.double().numpy(), width, mode="wrap", truncate=3, axes=axes)
    point = torch.zeros(31).double()
    point[15] = 1
    length = gaussian_filter(point.numpy(), width, mode="constant", truncate=3)
    expected = torch.from_numpy(blurred) / torch.from_numpy(length).norm() ** len(axes)
    torch.testing.assert_close(
        smooth_signs(x, width), expected.clamp(-1, 1).float(), rtol=1e-4, atol=1e-5
    )


def test_next_to_no_blur_leaves_signs_and_small_fields_are_enough():
    x = signs(2, 1, 8, 8)
    torch.testing.assert_close(smooth_signs(x, 1e-3), x.float())
    assert smooth_signs(signs(2, 1, 2, 3), 1.5).shape == (2, 1, 2, 3)
