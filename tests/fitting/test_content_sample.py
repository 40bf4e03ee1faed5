"""The sample depends on content alone: not on order, batches or who saw what."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from pytorch_ood_viyog.fitting.content_sample import draw, merge, priorities


def sampled(parts, size, seed=0):
    total = None
    for part in parts:
        drawn = draw(priorities(part, seed), part, size)
        total = drawn if total is None else merge(total, drawn, size)
    return total


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    size=st.integers(1, 40),
    cuts=st.lists(st.integers(1, 29), max_size=4, unique=True),
)
def test_neither_order_nor_batches_matter(seed, size, cuts):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(30, 2, 3, generator=generator)
    shuffled = x[torch.randperm(30, generator=generator)]
    bounds = [0, *sorted(cuts), 30]
    parts = [shuffled[a:b] for a, b in pairwise(bounds)]
    wanted, got = sampled([x], size), sampled(parts, size)
    assert torch.equal(wanted[0], got[0])
    assert torch.equal(wanted[1], got[1])
    assert len(got[1]) == min(size, 30)


def test_the_choice_is_spread_evenly():
    x = torch.arange(20_000.0).reshape(-1, 1)
    chosen = sampled([x], 2_000)[1].flatten()
    # a uniform sample: its mean is within four standard errors of the population's
    assert abs(chosen.mean() - 10_000) < 4 * 20_000 / 12**0.5 / 2_000**0.5


def test_the_seed_changes_the_choice_and_types_do_not():
    x = torch.randn(50, 4)
    assert not torch.equal(priorities(x, 0), priorities(x, 1))
    assert torch.equal(priorities(x, 0), priorities(x.double(), 0))
    assert torch.equal(priorities(torch.zeros(1, 4), 0), priorities(-torch.zeros(1, 4), 0))


def test_the_global_generator_is_not_used():
    before = torch.get_rng_state()
    priorities(torch.randn(3, 4, generator=torch.Generator()), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_merge_takes_no_memory_beyond_its_result():
    generator = torch.Generator().manual_seed(0)
    parts = [
        (torch.randperm(64, generator=generator), torch.rand(64, 2**14, generator=generator))
        for _ in range(2)
    ]
    merge(*parts, 64)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _, merged = merge(*parts, 64)
    made = sum(max(0, event.self_cpu_memory_usage) for event in profiler.key_averages())
    assert made < 1.1 * merged.nbytes


def test_nothing_and_nothing_is_nothing():
    nothing = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3)
    some = torch.tensor([3]), torch.ones(1, 3)
    assert merge(nothing, nothing, 4)[1].shape == (0, 3)
    for one, other in ((some, nothing), (nothing, some)):
        assert torch.equal(merge(one, other, 4)[1], some[1])
