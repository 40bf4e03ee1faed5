"""Composed kernels and windows against running the convolution itself."""

import pytest
import torch
from torch import nn

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.layer.linear.effective_convolution import EffectiveConvolution, Geometry
from pytorch_ood_viyog.layer.linear.precise_convolution import convolve
from pytorch_ood_viyog.residue.evidence import reader_of
from pytorch_ood_viyog.residue.maps import inputs_of
from pytorch_ood_viyog.residue.windows import Windows, extended_kernel

STEMS = {
    "3x3": (nn.Conv2d(3, 8, 3, padding=1), (3, 12, 12)),
    "7x7 stride 2": (nn.Conv2d(3, 8, 7, 2, 3), (3, 30, 34)),
    "patches": (nn.Conv2d(3, 8, 4, 4), (3, 24, 24)),
    "grouped, dilated": (nn.Conv2d(4, 8, 3, groups=2, dilation=2, padding="same"), (4, 16, 16)),
    "1-D": (nn.Conv1d(2, 8, 5, 2, 2, bias=False), (2, 40)),
    "3-D": (nn.Conv3d(1, 8, 3, padding=1), (1, 8, 9, 7)),
    "uneven": (nn.Conv2d(3, 8, (5, 1), (2, 1), (2, 0)), (3, 19, 11)),
    "large": (nn.Conv2d(1, 2, 3, padding=1), (1, 150, 150)),
}
stems = pytest.mark.parametrize(("conv", "shape"), STEMS.values(), ids=STEMS)


def without_bias(conv, x):
    with torch.no_grad():
        return conv._conv_forward(x, conv.weight, None)


@stems
def test_extended_kernel_reads_all_neighbours(conv, shape):
    """Windows of the packed maps, and the extended kernel on the input, give the same."""
    x = torch.rand(2, *shape)
    maps = without_bias(conv, x)
    spatial = tuple(maps.shape[2:])
    windows = Windows.of(Geometry.of(conv), spatial)
    packed = windows.pack(maps)
    for axis, step in enumerate(windows.packed_steps, 2):
        packed = packed.unfold(axis, 3, step)
    axes = len(spatial)
    expected = packed.movedim(tuple(range(2, 2 + axes)), tuple(range(-axes, 0)))
    field = windows.field(Geometry.of(conv), x)
    kernel = extended_kernel(Geometry.of(conv), EffectiveConvolution.of(conv).kernel).float()
    got = convolve(field, kernel, windows.input_stride(conv))
    assert got.shape[2:] == windows.count(tuple(windows.pack(maps).shape[2:]))
    torch.testing.assert_close(got, expected.reshape(got.shape), rtol=1e-4, atol=1e-5)


def test_large_maps_are_read_at_about_a_thousand_windows():
    conv, _ = STEMS["large"]
    windows = Windows.of(Geometry.of(conv), (150, 150))
    packed = windows.pack(torch.zeros(1, 2, 150, 150))
    counts = windows.count(tuple(packed.shape[2:]))
    assert 500 < counts[0] * counts[1] <= 1200
    assert packed.numel() < 150 * 150


@stems
def test_few_positions_are_read_one_by_one(conv, shape):
    maps = tuple(conv(torch.rand(1, *shape)).shape[2:])
    windows = Windows.of(Geometry.of(conv), maps)
    positions = windows.positions(windows.pack(torch.zeros(1, 1, *maps)))
    read = windows.thinned(positions).numel()
    assert read <= 512
    assert read == positions.numel() or read >= 128


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_maps_of_their_inputs_size_tell_the_inputs(padding_mode):
    conv = nn.Conv2d(3, 32, 3, padding=1, padding_mode=padding_mode)
    x = torch.rand(40, 3, 20, 24)
    state = ViyogResidue(nn.Sequential(conv)).fit([x])._require_state()
    found = inputs_of(reader_of(state), Geometry.of(conv), conv(x[:9]).detach())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, x[:9], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conv", [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 32, 3, 2, 1)])
def test_maps_of_few_channels_or_with_strides_do_not_tell_the_inputs(conv):
    x = torch.rand(40, 3, 20, 24)
    state = ViyogResidue(nn.Sequential(conv)).fit([x])._require_state()
    assert inputs_of(reader_of(state), Geometry.of(conv), conv(x).detach()) is None
