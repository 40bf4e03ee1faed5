"""The ID hypothesis as a gate."""

import pytest
import torch
from networks import SmallNet, build
from pytorch_ood.api import RequiresFittingException
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import ViyogResidue, ViyogTV
from pytorch_ood_viyog.detectors.residue_outlier import ResidueOutlier
from pytorch_ood_viyog.pipeline.shared_forward import SharedForward


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.avg_pool2d(torch.rand(160, 3, 14, 14, generator=generator), 3, 1)
    return DataLoader(TensorDataset(x, torch.arange(160) % 5), batch_size=40)


def test_the_score_is_the_unlikeness_of_id(data):
    residue = ViyogResidue(build(SmallNet)).fit(data)
    x = torch.rand(5, 3, 12, 12)
    expected = -residue.log_likelihoods(x)[:, 0]
    outlier = ResidueOutlier(residue)
    torch.testing.assert_close(outlier.predict(x), expected)
    maps = residue.model.stem(x).detach()
    # maps are float32: their rounding is amplified in the quiet directions
    torch.testing.assert_close(outlier.predict_features(maps), expected, rtol=1e-5, atol=0)


def test_noise_is_more_unlike_id_than_id_is(data):
    outlier = ResidueOutlier(ViyogResidue(build(SmallNet)).fit(data))
    x = torch.cat([x for x, _ in data])
    assert outlier.predict(torch.rand(40, 3, 12, 12)).min() > outlier.predict(x).max()


def test_it_follows_the_other_detectors_fit(data):
    residue = ViyogResidue(None)
    detectors = {"outlier": ResidueOutlier(residue), "residue": residue}
    pipeline = SharedForward(build(SmallNet), detectors)
    x = torch.rand(5, 3, 12, 12)
    with pytest.raises(RequiresFittingException, match="'outlier'"):
        pipeline.predict(x)
    own = ViyogResidue(build(SmallNet)).fit(data)
    scores = pipeline.fit(data).predict(x)
    torch.testing.assert_close(scores["outlier"], -own.log_likelihoods(x)[:, 0])


def test_fitting_it_fits_the_other(data):
    x = torch.rand(5, 3, 12, 12)
    own = ViyogResidue(build(SmallNet)).fit(data)
    outlier = ResidueOutlier(ViyogResidue(build(SmallNet))).fit(data)
    torch.testing.assert_close(outlier.residue.predict(x), own.predict(x))
    torch.testing.assert_close(outlier.predict(x), -own.log_likelihoods(x)[:, 0])
    maps = own.model.stem(torch.cat([x for x, _ in data])).detach()
    by_maps = ResidueOutlier(ViyogResidue(None, layer=own.model.stem.conv, input_range=1.0))
    assert by_maps.fit_features(maps).residue.eigenvalues is not None


def test_only_residue_has_hypotheses():
    with pytest.raises(TypeError, match="must be a ViyogResidue, got ViyogTV"):
        ResidueOutlier(ViyogTV(None))
