"""Regions of maps: what they cover, and the noise floor in them."""

import math
from types import SimpleNamespace

import pytest
import torch
from pytorch_ood.api import ModelNotSetException, RequiresFittingException
from torch import nn
from torch.nn.functional import avg_pool2d

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.layer.linear.effective_convolution import Geometry
from pytorch_ood_viyog.residue.reader import Reading
from pytorch_ood_viyog.residue.regions import Regions, floor_map
from pytorch_ood_viyog.residue.windows import Windows

SHAPES = {
    "32 px": (nn.Conv2d(3, 8, 3, padding=1), (32, 32), (8, 8)),
    "224 px": (nn.Conv2d(3, 8, 7, 2, 3), (112, 112), (8, 8)),
    "patches": (nn.Conv2d(3, 8, 8, 8), (8, 8), (4, 4)),
    "uneven": (nn.Conv2d(3, 8, 3, padding=1), (40, 6), (8, 3)),
    "one": (nn.Conv2d(3, 8, 3), (1, 1), (1, 1)),
    "1-D": (nn.Conv1d(3, 8, 5), (5000,), (8,)),
    "3-D": (nn.Conv3d(3, 8, 3), (10, 12, 14), (5, 6, 7)),
}
shapes = pytest.mark.parametrize(("conv", "shape", "cells"), SHAPES.values(), ids=SHAPES)


def regions_of(conv, shape):
    windows = Windows.of(Geometry.of(conv), shape)
    return windows, Regions.of(windows, shape, torch.zeros((), dtype=torch.float64))


@shapes
def test_a_region_lies_where_its_cell_is(conv, shape, cells):
    windows, regions = regions_of(conv, shape)
    axes = zip(windows.margins, windows.steps, windows.count_of(shape), strict=True)
    for (margin, step, count), size, number, shares in zip(
        axes, shape, cells, regions.shares, strict=True
    ):
        centres = margin + 1.5 + step * torch.arange(count).double()
        distance = (shares @ centres - (torch.arange(number) + 0.5) * size / number).abs()
        assert distance.max() <= size / number + step


def floors(around, flat):
    """The map where the quietest four of these directions show nothing on ID images."""
    windows, shape = Windows((0, 0), (1, 1), (1, 1)), (32, 32)
    responses = (torch.empty(0), around.flatten(2))
    reading = Reading(responses, windows, shape, torch.empty(0), flat, lambda: around)
    reader = SimpleNamespace(window_medians=slice(0, around.shape[1]))
    return floor_map(reading, reader, torch.full((1, around.shape[1]), -99.0))


def test_a_floor_by_hand():
    around = torch.full((1, 8, 30, 30), 3.0, dtype=torch.float64)
    around[:, 4:] = 5.0  # not among the quietest
    found = floors(around, torch.zeros(1, 30, 30, dtype=torch.bool))
    # the mean of the logarithm of a mean of four squares is that of their mean, less 0.270
    assert found[0, 3, 4].item() == pytest.approx(3 * math.exp(0.5 * 0.2704), rel=1e-4)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return ViyogResidue(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1))).fit([smooth(60)])


def smooth(count):
    generator = torch.Generator().manual_seed(count)
    return avg_pool2d(torch.rand(count, 3, 56, 56, generator=generator), 9, 1)[..., :48, :48]


def with_noise(x, strength):
    noisy = x.clone()
    part = noisy[:, :, :24, :24]
    part += strength * torch.randn(part.shape, generator=torch.Generator().manual_seed(0))
    return noisy


@pytest.mark.parametrize("levels", [4, 8, 16])
def test_noise_is_read_where_it_is_in_units_of_the_input(detector, levels):
    x, scale = smooth(8), detector.state_dict()["tensors"]["scale"]
    found = 255 * detector.residue_map(with_noise(x, levels / 255))
    inside, outside = found[:, :3, :3].mean(), found[:, 5:, 5:].mean()
    assert levels / scale.max() * 0.8 < inside < levels / scale.min() * 1.25
    assert outside < 0.25 * inside


@pytest.mark.parametrize(
    ("conv", "shape", "cells"),
    [(nn.Conv1d(2, 8, 5), (2, 200), (8,)), (nn.Conv3d(1, 8, 3), (1, 10, 10, 10), (4, 4, 4))],
)
def test_as_many_axes_as_the_input(conv, shape, cells):
    x = torch.rand(30, *shape)
    found = ViyogResidue(nn.Sequential(conv)).fit([x]).residue_map(x[:2])
    assert found.shape == (2, *cells)
    assert found.min() >= 0


def test_constant_windows_are_left_out_of_regions():
    around = torch.randn(2, 4, 30, 30, generator=torch.Generator().manual_seed(0)) / 100
    flat = torch.zeros(2, 30, 30, dtype=torch.bool)
    whole = floors(around, flat)
    flat[:, :, 10:] = True
    found = floors(torch.where(flat[:, None], 0.0, around), flat)
    torch.testing.assert_close(found[..., :2], whole[..., :2], rtol=0.2, atol=0)
    assert float(found[..., 4:].max()) < 0.02 / 255


def test_what_a_map_needs_is_said(detector):
    x = smooth(4)
    with pytest.raises(RequiresFittingException):
        ViyogResidue(detector.model).residue_map(x)
    bare = ViyogResidue(None, layer=detector.model[0], input_range=1.0)
    with pytest.raises(ModelNotSetException):
        bare.fit_features(torch.rand(8, 16, 10, 10)).residue_map(x)
    x[1, 0, 20, 20] = torch.nan
    with pytest.raises(ValueError, match="must be finite"):
        detector.residue_map(x)
