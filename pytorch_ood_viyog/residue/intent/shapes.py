"""
The shapes that residues of attacks have: a gradient comes back through the layer's own filters.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...layer.linear.effective_convolution import EffectiveConvolution

__all__ = ["Direction", "adjoint", "filter_shaped", "forward", "residue"]

#: inputs of the layer as they are by now, and as they were -> the direction in which an attack
#: would change them, same shape
Direction = Callable[[Tensor, Tensor], Tensor]


def forward(conv: EffectiveConvolution, inputs: Tensor) -> Tensor:
    """:return: :math:`W * x`, without bias, in the precision of the inputs"""
    maps = conv.maps(inputs)
    return maps - conv.bias.to(maps).view(-1, *[1] * (maps.dim() - 2))


def adjoint(conv: EffectiveConvolution, maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """
    :return: :math:`W^\\top * m` of maps, with the shape of the layer's input, :math:`C_{in}
        \\times *S`
    """
    # the transpose of whatever the layer does with stride, padding and groups
    with torch.inference_mode(False), torch.enable_grad():
        maps = maps.clone()
        inputs = maps.new_zeros(len(maps), *shape, requires_grad=True)
        (back,) = torch.autograd.grad(forward(conv, inputs), inputs, maps)
    return back


def filter_shaped(
    conv: EffectiveConvolution, share: float, generator: torch.Generator
) -> Direction:
    """
    :return: gives :math:`W^\\top * m` with :math:`m` Gaussian at a share of its positions, else 0
    """

    def direction(inputs: Tensor, _: Tensor) -> Tensor:
        like = forward(conv, inputs)
        kept = torch.rand(like.shape, generator=generator) < share
        maps = torch.randn(like.shape, generator=generator) * kept
        return adjoint(conv, maps.to(like), tuple(inputs.shape[1:]))

    return direction


def residue(
    inputs: Tensor, direction: Direction, scale: Tensor, eps: float | Tensor, steps: int
) -> Tensor:
    """
    Inputs moved along the sign of a direction, as gradient attacks move them; in several steps of
    2.5 / steps of the budget, never beyond it. With ``steps=0`` in proportion to the direction,
    with a root mean square of :math:`\\epsilon`, as attacks of the least norm. Range (``scale``)
    and budget, a fraction of it, broadcast with the inputs.
    """
    if steps == 0:
        change = direction(inputs, inputs) * scale
        norm = (change / scale).flatten(1).square().mean(dim=1).sqrt()
        size = norm.clamp_min(1e-30).view(-1, *[1] * (inputs.dim() - 1))
        return inputs + eps * change / size
    bound = torch.as_tensor(eps).to(inputs)
    moved, width = inputs, 1.0 if steps == 1 else 2.5 / steps
    for _ in range(steps):
        change = moved + width * eps * scale * direction(moved, inputs).sign() - inputs
        moved = inputs + (change / scale).minimum(bound).maximum(-bound) * scale
    return moved
