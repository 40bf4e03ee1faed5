"""Fisher's discriminant against its formula and against scikit-learn."""

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

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


def test_direction_and_scale_of_scikit_learn():
    inside, outside = groups()
    x = torch.cat([inside, outside]).numpy()
    labels = [0] * len(inside) + [1] * len(outside)
    lda = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.5, 0.5]).fit(x, labels)
    contrast = fisher_contrast(inside, outside, 0.0)
    cosine = torch.cosine_similarity(torch.from_numpy(lda.coef_[0]), contrast, dim=0)
    assert cosine > 0.9999
    variances = [(group @ contrast).var(correction=0) for group in (inside, outside)]
    assert abs(sum(variances) / 2 - 1) < 1e-2


def test_a_direction_in_which_the_second_group_spreads_counts_less():
    generator = torch.Generator().manual_seed(0)
    inside = torch.randn(2000, 2, generator=generator).double()
    outside = torch.randn(2000, 2, generator=generator).double() * torch.tensor([9.0, 1.0]) + 1
    contrast = fisher_contrast(inside, outside, 0.0)
    assert contrast[1] > 20 * contrast[0].abs()


def test_equal_groups_have_no_contrast():
    inside = groups()[0]
    assert torch.equal(fisher_contrast(inside, inside, 0.1), torch.zeros(4).double())
