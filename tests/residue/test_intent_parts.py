"""Shapes of residues, what they are put on, and the ratio, against independent formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytorch_ood_viyog.images import BenignChange
from pytorch_ood_viyog.layer.linear.effective_convolution import EffectiveConvolution
from pytorch_ood_viyog.residue.intent.ratio import fit_ratio
from pytorch_ood_viyog.residue.intent.sample import layer_inputs, measure_inputs, merge_inputs
from pytorch_ood_viyog.residue.intent.shapes import adjoint, filter_shaped, forward, residue
from pytorch_ood_viyog.residue.intent.simulation import (
    SIMULATED,
    UnitRange,
    benign_inputs,
    simulate,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CONVOLUTIONS = {
    "plain": nn.Conv2d(3, 30, 3, padding=1),
    "strided": nn.Conv2d(3, 20, 4, stride=3, padding=2),
    "same": nn.Conv2d(3, 30, (3, 2), padding="same"),
    "grouped": nn.Conv2d(4, 40, 3, groups=2),
    "signal": nn.Conv1d(2, 20, 5, dilation=2),
    "volume": nn.Conv3d(1, 30, 3),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_adjoint_is_that_of_the_convolution(name):
    layer = CONVOLUTIONS[name].double()
    conv = EffectiveConvolution.of(layer)
    x = normal(2, conv.in_channels, *[9] * (layer.weight.dim() - 2))
    maps = normal(*forward(conv, x).shape, seed=1)
    torch.testing.assert_close(forward(conv, x), (layer(x) - layer(0 * x)).detach())
    left = (forward(conv, x) * maps).sum()
    torch.testing.assert_close(left, (x * adjoint(conv, maps, tuple(x.shape[1:]))).sum())


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_inputs_are_found_from_maps(name):
    layer = CONVOLUTIONS[name].double()
    conv = EffectiveConvolution.of(layer)
    x = normal(3, conv.in_channels, *[10] * (layer.weight.dim() - 2))
    maps = layer(x).detach()
    found = layer_inputs(conv, measure_inputs(maps, None, 3, 0))
    again = layer(found).detach()
    order = [int((maps - each).flatten(1).norm(dim=1).argmin()) for each in again]
    assert sorted(order) == [0, 1, 2]
    torch.testing.assert_close(again, maps[order], rtol=1e-2, atol=2e-2)


def test_steps_along_rounding_are_not_taken():
    x = normal(3, 2, 10)
    for seed in (*range(9), 47, 2796, 2857):  # of some filters in a hundred
        torch.manual_seed(seed)
        layer = nn.Conv1d(2, 20, 5, dilation=2).double()
        maps = layer(x).detach()
        found = layer_inputs(EffectiveConvolution.of(layer), measure_inputs(maps, None, 3, 0))
        apart = (layer(found).detach()[:, None] - maps).flatten(2).norm(dim=2)
        assert float(apart.amin(dim=1).max()) < 0.01, seed


def test_samples_are_chosen_by_content_and_merge():
    x = normal(20, 3, 6, 6).float()
    whole = measure_inputs(x, x, 8, 0)
    halves = [measure_inputs(part, part, 8, 0) for part in (x[:7], x[7:])]
    for merged in (merge_inputs(*halves, 8), merge_inputs(*halves[::-1], 8)):
        assert torch.equal(merged["inputs"], whole["inputs"])
    both = merge_inputs(whole, measure_inputs(x, None, 8, 0), 8)
    assert set(both) == {"inputs", "maps", "inputs_priority", "maps_priority"}
    with pytest.raises(ValueError, match="All inputs of a fit must have one size"):
        merge_inputs(whole, measure_inputs(x[..., 1:], x[..., 1:], 8, 0), 8)


def test_residues_keep_to_their_budget():
    conv = EffectiveConvolution.of(nn.Conv2d(3, 12, 3, padding=1))
    x = torch.rand(4, 3, 12, 12)
    scale = torch.tensor([1.0, 2.0, 0.5]).view(-1, 1, 1)
    for steps in (1, 3):
        direction = filter_shaped(conv, 0.1, torch.Generator().manual_seed(0))
        change = (residue(x, direction, scale, 0.03, steps) - x) / scale
        assert change.abs().max() <= 0.03 + 1e-6
        assert (change.abs() > 0.029).double().mean() > 0.2
    direction = filter_shaped(conv, 0.1, torch.Generator().manual_seed(0))
    change = (residue(x, direction, scale, 0.03, 0) - x) / scale
    torch.testing.assert_close(
        change.flatten(1).square().mean(dim=1).sqrt(), torch.full((4,), 0.03)
    )


def test_filter_shaped_directions_are_sparse_sums_of_filters():
    layer = nn.Conv2d(3, 5, 2, stride=2, bias=False)
    conv = EffectiveConvolution.of(layer)
    direction = filter_shaped(conv, 0.02, torch.Generator().manual_seed(1))
    found = direction(torch.zeros(1, 3, 40, 40), torch.zeros(1))
    patches = functional.unfold(found, 2, stride=2)[0].T
    filters = layer.weight.detach().flatten(1)
    empty = patches.abs().sum(dim=1) == 0
    assert 0.8 < empty.double().mean() < 0.98  # 0.98^5 = 0.90
    rest = patches - patches @ torch.linalg.pinv(filters) @ filters
    assert rest.abs().max() < 1e-5


def test_changes_are_made_in_the_range_of_the_inputs():
    low, scale = torch.tensor([-2.0, 0.0, 1.0]), torch.tensor([4.0, 1.0, 0.5])
    units = UnitRange(low, scale)
    images = (torch.rand(3, 3, 8, 8) * 255).round() / 255
    inputs = units.from_unit(images)
    torch.testing.assert_close(units.to_unit(inputs), images)
    change = BenignChange("sharpening", 100)
    found = benign_inputs(inputs, change, units, 0)
    torch.testing.assert_close(units.to_unit(found), change(images), rtol=0, atol=1.01 / 255)


def test_everything_is_simulated_once_rounded_and_clipped():
    units = UnitRange(torch.zeros(3), torch.ones(3))
    x = torch.rand(2, 3, 12, 12)
    directions = {
        name: (lambda inputs, _: torch.ones_like(inputs), steps)
        for name, steps in (("one", 1), ("least", 0))
    }
    found = list(simulate(x, units, directions, (1 / 255, 2 / 255, 8 / 255), 0))
    shaped = [name for is_shaped, name, _ in found if is_shaped]
    assert [name for is_shaped, name, _ in found if not is_shaped] == [str(c) for c in SIMULATED]
    assert [name.split()[0] for name in shaped] == ["one"] * 3 + ["least"] * 2
    for _, _, changed in found:
        assert changed.min() >= 0
        assert changed.max() <= 1
        torch.testing.assert_close(changed * 255, (changed * 255).round(), rtol=0, atol=1e-3)


def test_signals_and_volumes_get_what_suits_them():
    for shape in ((2, 2, 30), (2, 1, 9, 9, 9)):
        units = UnitRange(torch.zeros(shape[1]), torch.ones(shape[1]))
        x = torch.rand(shape)
        suited = [c.kind for c in SIMULATED if benign_inputs(x, c, units, 0) is not None]
        assert "white noise" in suited
        assert not {"JPEG", "WebP", "demosaiced noise"} & set(suited)


def test_the_ratio_is_that_of_gaussian_mixtures():
    groups = [normal(200, 3, seed=s) + torch.tensor([s, 0.0, 0.0]) for s in range(4)]
    ratio = fit_ratio(groups[2:], groups[:2])
    means = torch.stack([g.mean(dim=0) for g in groups])
    centred = torch.cat([g - m for g, m in zip(groups, means, strict=True)])
    covariance = centred.T @ centred / len(centred)
    covariance = 0.95 * covariance + 0.05 * covariance.diagonal().diag() + 1e-3 * torch.eye(3)
    x = normal(50, 3, seed=9) * 3
    logs = torch.stack(
        [torch.distributions.MultivariateNormal(mean, covariance).log_prob(x) for mean in means]
    )
    expected = logs[2:].logsumexp(dim=0) - logs[:2].logsumexp(dim=0)
    torch.testing.assert_close(ratio(x) * ratio.unit, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("samples", [40, 400])
def test_the_unit_and_the_least_of_a_ratio_are_those_of_new_samples(samples):
    def groups(count, seed):
        shifts = torch.eye(20, dtype=torch.float64)[:4]
        return [normal(count, 20, seed=seed + n) + 2 * shift for n, shift in enumerate(shifts)]

    fitted, new = groups(samples, 0), groups(5000, 10)
    ratio = fit_ratio(fitted[:2], fitted[2:])
    values = torch.stack([ratio(group) for group in new[:2]])
    within = values - values.mean(dim=1, keepdim=True)
    assert within.square().mean().sqrt().item() == pytest.approx(1, rel=0.12)
    above = (values > ratio.least_intent).double().mean().item()
    assert 0.97 < above < 0.9999
