"""Convolutions by differences: the same numbers, with less rounding."""

import pytest
import torch
from torch import nn

from pytorch_ood_viyog.layer.linear.precise_convolution import convolve, convolve_differences

CASES = {
    "1-D": ((2, 3, 40), (4, 3, 5), (2,), (3,)),
    "2-D": ((2, 3, 21, 30), (4, 3, 5, 7), (3, 1), (1, 2)),
    "3-D": ((1, 2, 8, 9, 10), (3, 2, 3, 2, 1), (1, 2, 3), (2, 1, 1)),
    "1x1": ((2, 3, 6, 6), (4, 3, 1, 1), (2, 2), (1, 1)),
}
cases = pytest.mark.parametrize(
    ("shape", "kernel", "stride", "dilation"), CASES.values(), ids=CASES
)


@cases
def test_differences_are_the_same_convolution(shape, kernel, stride, dilation):
    x, k = torch.rand(shape, dtype=torch.float64), torch.randn(kernel, dtype=torch.float64)
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(stride) - 1](
        shape[1], kernel[0], kernel[2:], stride, dilation=dilation, bias=False
    )
    layer.weight = nn.Parameter(k)
    expected = layer(x).detach()
    torch.testing.assert_close(convolve(x, k, stride, dilation), expected)
    torch.testing.assert_close(convolve_differences(x, k, stride, dilation), expected)


def test_differences_lose_less_where_the_input_is_flat():
    """A bright field with fine detail of a thousandth, read by a kernel that sums to zero."""
    generator = torch.Generator().manual_seed(0)
    x = 0.9 + 1e-3 * torch.rand(4, 3, 40, 40, generator=generator)
    k = torch.randn(8, 3, 7, 7, generator=generator, dtype=torch.float64)
    k -= k.mean(dim=(2, 3), keepdim=True)
    exact = convolve(x.double(), k, (1, 1))
    plain = (convolve(x, k, (1, 1)) - exact).abs().max()
    differences = (convolve_differences(x, k, (1, 1), (1, 1)) - exact).abs().max()
    assert differences < plain / 20
