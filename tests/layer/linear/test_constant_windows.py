"""Constant windows: where they are, and what quantiles are without them."""

import pytest
import torch

from pytorch_ood_viyog.layer.linear.constant_windows import constant, everywhere, without
from pytorch_ood_viyog.residue.features import features, unreadable


def test_windows_by_hand():
    x = torch.rand(1, 2, 6, 9)
    x[:, :, :, :5] = torch.tensor([0.2, 0.7]).view(2, 1, 1)
    found = constant(x, torch.ones(2), (3, 3), [3, 1])
    assert found.tolist() == [[[True, True, True, False, False, False, False]] * 2]
    x[0, 1, 1, 1] += 1 / 255
    assert constant(x, torch.ones(2), (3, 3), [3, 1])[0, 0].tolist() == [
        *[False] * 2, True, *[False] * 4
    ]  # fmt: skip
    assert constant(x * 50, torch.full((2,), 50.0), (3, 3), [3, 1])[0, 1, :3].all()


@pytest.mark.parametrize("size", [2, 3, 7, 20])
def test_large_windows_are_compared_at_both_ends(size):
    x = torch.zeros(1, 1, size + 4)
    x[..., -1] = 1
    assert constant(x, torch.ones(1), (size,), [1])[0].tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_constant_windows_are_those_whose_values_are_all_equal(axes, share):
    generator = torch.Generator().manual_seed(axes)
    x = torch.rand(2, 2, *[17] * axes, generator=generator).round(decimals=1)
    x[0, ..., : int(share * 17)] = 0.5
    x[0].flatten()[::50] = 0.6
    sizes, strides = (3,) * axes, [2] * axes
    windows = x
    for axis in range(2, 2 + axes):
        windows = windows.unfold(axis, 3, 2)
    values = windows.flatten(2 + axes).movedim(1, -1).flatten(0, -3)
    spread = values.amax(dim=1) - values.amin(dim=1)
    expected = (spread == 0).all(dim=1).reshape(2, *[8] * axes)
    assert torch.equal(constant(x, torch.ones(2), sizes, strides), expected)


def test_the_others_take_the_place_of_what_is_left_out():
    values = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    flat = torch.tensor([[True, False, True, False, True]])
    assert without(flat, values).tolist() == [[[2, 4, 2, 4, 2]]]
    assert torch.equal(without(flat & False, values), values)
    assert without(flat | True, values).shape == values.shape


def test_features_are_those_of_the_other_positions():
    generator = torch.Generator().manual_seed(0)
    local = torch.randn(3, 8, 60, generator=generator)
    around = torch.randn(3, 4, 60, generator=generator)
    flat = torch.arange(120)[None].expand(3, 120) < 60
    quiet = [torch.cat([torch.zeros_like(z), z], dim=2) for z in (local, around)]
    found = features(*quiet, 4, (flat, flat))
    torch.testing.assert_close(found, features(local, around, 4), rtol=0.03, atol=0.15)
    assert not bool(unreadable(found).any())
    nearly = torch.arange(120)[None].expand(3, 120) < 110
    assert bool(everywhere(nearly).all())
    assert bool(unreadable(features(*quiet, 4, (nearly, nearly))).all())
