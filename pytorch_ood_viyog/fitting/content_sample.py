"""
A sample of fixed size from a stream: chosen by content, so that neither order, batches nor the
machine that saw a sample change the choice, and two samples merge into that of both streams.
"""

import torch
from torch import Tensor

__all__ = ["draw", "merge", "priorities"]

# of splitmix64, as signed 64-bit integers: spreads the bits of the weighted sum
_MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)


def priorities(x: Tensor, seed: int) -> Tensor:
    """
    Pseudo-random numbers that depend on each sample's values and on nothing else.

    :param x: samples, first dimension :math:`B`, any float type
    :param seed: another seed makes another choice
    :return: int64 of shape :math:`B`, spread evenly over 0 to :math:`2^{63}`
    """
    values = x.detach().to("cpu", torch.float32).reshape(x.shape[0], -1) + 0.0  # no -0.0
    bits = values.contiguous().view(torch.int32).long()
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator)
    mixed = (bits * weights).sum(dim=1)  # integers wrap around, in any order of summation
    for factor in _MIX:
        mixed = (mixed ^ (mixed >> 29)) * factor
    return mixed ^ (mixed >> 32)


def draw(priority: Tensor, values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """
    :param priority: int64 of shape :math:`B`
    :param values: what is kept of each sample, first dimension :math:`B`
    :param size: number of samples to keep
    :return: priorities and values of the samples with the smallest priorities, in their order
    """
    chosen = priority.argsort(stable=True)[:size]
    return priority[chosen], values[chosen.to(values.device)]


def merge(
    one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], size: int
) -> tuple[Tensor, Tensor]:
    """:return: of what was drawn from two streams, what :func:`draw` would give on both"""
    if len(other[0]) == 0 or (len(one[0]) >= size and bool((other[0] > one[0].max()).all())):
        return one
    priority = torch.cat([one[0], other[0].to(one[0].device)])
    chosen = priority.argsort(stable=True)[:size]
    # of views, which takes half the memory of joining all to choose from
    values = [*one[1], *other[1].to(one[1].device)]
    return priority[chosen], torch.stack([values[i] for i in chosen.tolist()])
