"""Quiet directions against SciPy's solver of the generalised eigenproblem."""

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytorch_ood_viyog.residue.directions import quiet_directions


def spd(size, seed, rank=None):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, rank or size, generator=generator, dtype=torch.float64)
    return root @ root.T


@settings(max_examples=30, deadline=None, derandomize=True)
@given(size=st.integers(2, 12), seed=st.integers(0, 1000))
def test_against_scipy(size, seed):
    covariance = spd(size, seed)
    gain = spd(size, seed + 1) + 0.1 * size * torch.eye(size, dtype=torch.float64)
    directions, energies = quiet_directions(covariance, gain, size)
    expected, vectors = scipy.linalg.eigh(covariance.numpy(), gain.numpy())
    torch.testing.assert_close(energies, torch.from_numpy(expected), rtol=1e-6, atol=1e-9)
    overlaps = (directions @ gain @ torch.from_numpy(vectors)).abs()
    torch.testing.assert_close(
        overlaps.diagonal(), torch.ones(size, dtype=torch.float64), rtol=1e-4, atol=1e-4
    )


def test_only_the_range_of_the_gain_counts():
    gain = spd(10, 5, rank=4)
    directions, energies = quiet_directions(spd(10, 6), gain, 10)
    assert directions.shape == (4, 10)
    assert energies.shape == (4,)


def test_a_dead_convolution_is_an_error():
    with pytest.raises(ValueError, match="weights are zero"):
        quiet_directions(spd(3, 0), torch.zeros(3, 3, dtype=torch.float64), 2)
