"""What a layer's answers to impulses tell, against its weights and its forward pass."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from manners import untouched
from stems import QuantisedWeights, SameConv, UnfoldedPatches
from torch import nn

from pytorch_ood_viyog.layer.linear.effective_convolution import EffectiveConvolution, Geometry
from pytorch_ood_viyog.layer.linear.impulse_response import impulse_response


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


class ByHand(nn.Module):
    """y[q] = 2 x[2q] - 3 x[2q + 2] + 0.5"""

    def forward(self, x):
        return 2 * x[:, :, :-2:2] - 3 * x[:, :, 2::2] + 0.5


def test_a_kernel_computed_by_hand():
    found = impulse_response(ByHand(), images(2, 1, 11))
    assert found.kernel.tolist() == [[[2.0, -3.0]]]
    assert found.bias.tolist() == [0.5]
    assert found.geometry == Geometry((2,), (2,), (2,), (0,), (0,), (11,))


def test_taps_that_are_zero_at_the_ends_are_left_out():
    conv = nn.Conv1d(1, 1, 5, padding=2, bias=False)
    conv.weight.data = torch.tensor([[[0.0, 1.0, 4.0, -1.0, 0.0]]])
    found = impulse_response(conv, images(2, 1, 12))
    assert found.kernel.tolist() == [[[1.0, 4.0, -1.0]]]
    assert found.geometry == Geometry((3,), (1,), (1,), (1,), (1,), (12,))


@st.composite
def convolutions(draw):
    axes = draw(st.integers(1, 3))
    numbers = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    kernel, stride, dilation = numbers(1, 4), numbers(1, 3), numbers(1, 2)
    padding = tuple(
        draw(st.integers(0, d * (k - 1))) for d, k in zip(dilation, kernel, strict=True)
    )
    groups = draw(st.sampled_from([1, 2]))
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    torch.manual_seed(draw(st.integers(0, 99)))
    conv = kind(2, 4, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()))
    sizes = [d * (k - 1) + 1 + 3 * s for d, k, s in zip(dilation, kernel, stride, strict=True)]
    return conv, images(2, 2, *[size + draw(st.integers(0, 2)) for size in sizes])


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_any_convolution_tells_its_own_weights(drawn):
    conv, x = drawn
    expected, found = EffectiveConvolution.of(conv), impulse_response(conv, x)
    known, asked = expected.geometry, found.geometry
    taps = zip(known.kernel_size, known.stride, known.dilation, asked.dilation, strict=True)
    # the dilation of one tap says nothing
    assume(all(k == 1 or own == other for k, _, own, other in taps))
    assert (asked.kernel_size, asked.stride, asked.before) == (
        known.kernel_size,
        known.stride,
        known.before,
    )
    torch.testing.assert_close(found.kernel, expected.kernel, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.bias, expected.bias, rtol=0, atol=1e-12)
    assert asked.maps_shape(tuple(x.shape[2:])) == tuple(conv(x).shape[2:])


@pytest.mark.parametrize(("size", "before", "after"), [(24, 0, 1), (25, 1, 1), (26, 0, 1)])
def test_padding_that_depends_on_the_size(size, before, after):
    found = impulse_response(SameConv(3, 4, 3, stride=2), images(1, 3, size, size)).geometry
    assert (found.before, found.after) == ((before, before), (after, after))
    assert found.margins == (1, 1)


class Stubborn(nn.Conv2d):
    def __deepcopy__(self, memo):
        raise RuntimeError("cannot be copied")


def test_a_layer_that_stays_in_its_own_type():
    layer = Stubborn(3, 4, 3)
    with untouched(layer):
        found = impulse_response(layer, images(2, 3, 12, 12))
    torch.testing.assert_close(found.kernel.float(), layer.weight.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "atol"), [(nn.Conv2d, 0.0), (Stubborn, 0.02)])
def test_half_precision(kind, atol):
    layer = kind(3, 4, 3).bfloat16()
    layer.bias.data += 1.0
    found = impulse_response(layer, images(2, 3, 12, 12).bfloat16())
    assert found.geometry.kernel_size == (3, 3)
    torch.testing.assert_close(found.kernel, layer.weight.detach().double(), rtol=0, atol=atol)


def test_large_kernels_on_large_images():
    layer = nn.Conv2d(3, 4, 40, stride=40)
    found = impulse_response(copy.deepcopy(layer), images(1, 3, 160, 120))
    assert found.geometry.kernel_size == found.geometry.stride == (40, 40)
    torch.testing.assert_close(found.kernel, layer.weight.detach().double())


class PositionBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.position = nn.Parameter(torch.randn(4, 12, 12))

    def forward(self, x):
        return self.conv(x) + self.position


class Uneven(nn.Module):
    """Another gain at each position."""

    def forward(self, x):
        return x * torch.linspace(1, 2, x.shape[-1], dtype=x.dtype)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
            r"Sequential is not.*deviates.* by [\d.]+ of",
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)), r"linear layer.*deviates"),
        (QuantisedWeights(3, 4, 3, inputs=True), r"QuantisedWeights is not.*deviates.*by 0\.0"),
        (nn.MaxPool2d(2), "MaxPool2d is not"),
        (PositionBias(), r"PositionBias is not: away from the border.*deviate.* by [\d.]+ of"),
        (Uneven(), "Uneven is not: away from the border"),
        (nn.Linear(12, 12), "Linear is not shift-equivariant along spatial axis 1.*12 wide"),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), "ConvTranspose2d is not shift-equivariant"),
        (nn.AdaptiveAvgPool2d(1), r"no two neighbouring positions of its maps \(of 1\)"),
        (UnfoldedPatches(tokens=True), r"shape \(B, C, \*S\).*\(1, 9, 12\).*flattened to tokens"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Threshold(9.0, 1.0)), "same maps for every input"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_is_no_convolution_is_refused_with_what_was_found(layer, message):
    with untouched(layer), pytest.raises(RuntimeError, match=message):
        impulse_response(layer, images(2, 3, 12, 12))
