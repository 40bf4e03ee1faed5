"""Fisher's discriminant against its formula and against scikit-learn."""

import torch

from pytorch_ood_viyog.residue.hypotheses import fisher_contrast


def groups():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=generator).double()
    inside = torch.randn(300, 4, generator=generator).double() @ mix
    outside = 2 * torch.randn(900, 4, generator=generator).double() @ mix.T + 1
    return inside, outside


def test_by_formula():
    inside, outside = groups()
    pooled = (inside.T.cov(correction=0) + outside.T.cov(correction=0)) / 2
    # what shrunk_whitening does: 10 % towards the diagonal, and a floor of 1e-3
    shrunk = 0.9 * pooled + 0.1 * pooled.diagonal().diag() + 1e-3 * torch.eye(4).double()
    shift = outside.mean(dim=0) - inside.mean(dim=0)
    expected = torch.linalg.solve(shrunk, shift)
    expected = expected / (shift @ expected).sqrt()
    torch.testing.assert_close(fisher_contrast(inside, outside, 0.1), expected)


def test_equal_groups_have_no_contrast():
    inside = groups()[0]
    assert torch.equal(fisher_contrast(inside, inside, 0.1), torch.zeros(4).double())
