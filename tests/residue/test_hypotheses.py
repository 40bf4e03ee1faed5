"""Log-likelihoods against torch's own multivariate normal distribution."""

import math

import torch
from torch.distributions import MultivariateNormal

from pytorch_ood_viyog.residue.evidence import log_odds
from pytorch_ood_viyog.residue.hypotheses import log_likelihoods, shrunk_whitening


def test_against_multivariate_normal():
    generator = torch.Generator().manual_seed(0)
    centred = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    centred -= centred.mean(dim=0)
    whitening = shrunk_whitening(centred, 0.3, floor=0.01)
    sample = centred.T @ centred / 200
    identity = torch.eye(4, dtype=torch.float64)
    covariance = 0.7 * sample + 0.3 * sample.diagonal().diag() + 0.01 * identity
    torch.testing.assert_close(whitening @ covariance @ whitening.T, identity)

    means = torch.randn(6, 4, generator=generator, dtype=torch.float64)  # ID, 3 levels, 2 beyond
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    got = log_likelihoods(x, means, whitening, levels=3, kappa=2.5)

    def density(mean, factor):
        return MultivariateNormal(mean, factor * covariance).log_prob(x).exp()

    tight = [density(mean, 1.0) for mean in means]
    wide = [density(mean, 2.5) for mean in means[:4]]
    expected = torch.stack(
        [tight[0], sum([*wide, *tight[4:]]) / 6, sum(tight[1:4]) / 3], dim=1
    ).log()
    # one constant is left out: the normalisation that all share
    constant = -0.5 * (4 * math.log(2 * math.pi) + torch.logdet(covariance))
    torch.testing.assert_close(got + constant, expected)


def test_odds_far_from_everything_are_those_of_torch():
    sizes = torch.tensor([1.0, 1e3, 1e5, 1e8], dtype=torch.float64)
    logs = -torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).double() * sizes[:, None]
    expected = logs[:, 2] - torch.logaddexp(logs[:, 0], logs[:, 1])
    torch.testing.assert_close(log_odds(logs), expected)
