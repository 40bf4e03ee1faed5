"""Purified maps: small responses in the directions are gone, all else is untouched."""

import torch
from torch import nn

from pytorch_ood_viyog.layer.linear import EffectiveConvolution
from pytorch_ood_viyog.residue.directions import quiet_directions
from pytorch_ood_viyog.residue.maps import duals, purified_maps


def problem(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(3, 12, 3, bias=False)
    conv.weight.data = torch.randn(conv.weight.shape, generator=generator)
    kernel = EffectiveConvolution.of(conv).kernel
    scale = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    scaled = (kernel * scale.view(1, 3, 1, 1)).flatten(1)
    covariance = torch.diag(torch.rand(12, generator=generator, dtype=torch.float64))
    directions, _ = quiet_directions(covariance, scaled @ scaled.T, 12)
    maps = torch.randn(2, 12, 5, 6, generator=generator, dtype=torch.float64)
    return maps, directions, duals(kernel, scale, directions)


def responses(maps, mean, directions):
    return torch.einsum("mc,bchw->bmhw", directions, maps - mean.view(1, -1, 1, 1))


def test_duals_are_dual():
    _, directions, back = problem()
    assert torch.allclose(directions @ back.T, torch.eye(12, dtype=torch.float64), atol=1e-8)


def test_small_responses_are_removed_and_others_stay():
    maps, directions, back = problem()
    mean = torch.linspace(-1, 1, 12, dtype=torch.float64)
    strengths = torch.tensor([0.05, 0.2], dtype=torch.float64)
    purified = purified_maps(maps, mean, directions, back, strengths)
    before, after = responses(maps, mean, directions), responses(purified, mean, directions)
    deviations = before.abs() / strengths.view(2, 1, 1, 1)
    small, large = deviations <= 2.5, deviations >= 3.5
    assert 0 < int(small.sum()) < int((~large).sum()) < small.numel()
    assert torch.allclose(after[small], torch.zeros_like(after[small]), atol=1e-8)
    assert torch.allclose(after[large], before[large], atol=1e-8)
    between = before * (deviations - 2.5)
    assert torch.allclose(after[~small & ~large], between[~small & ~large], atol=1e-8)
