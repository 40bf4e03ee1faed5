"""Residues that fill a part of the image only."""

import pytest
import torch
from networks import SmallNet, build
from pytorch_ood.api import ModelNotSetException, RequiresFittingException
from torch.nn.functional import avg_pool2d

from pytorch_ood_viyog import ViyogResidue, viyog_metrics
from pytorch_ood_viyog.detectors.residue_local import ViyogResidueLocal
from pytorch_ood_viyog.pipeline.shared_forward import SharedForward


def smooth(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return avg_pool2d(torch.rand(count, 3, 48, 48, generator=generator), 9, 1)[..., :40, :40]


def confined(x, strength=8 / 255, side=20):
    """Sign noise in a square in the lower right."""
    generator = torch.Generator().manual_seed(9)
    changed = x.clone()
    part = changed[:, :, -side:, -side:]
    part += strength * torch.randn(part.shape, generator=generator).sign()
    return changed


@pytest.fixture(scope="module")
def local():
    return ViyogResidueLocal(build(SmallNet)).fit([smooth(100)])


@pytest.fixture(scope="module")
def whole():
    return ViyogResidue(build(SmallNet)).fit([smooth(100)])


def test_a_part_of_the_image_is_enough(local, whole):
    x = smooth(60, seed=1)
    auroc = {d: viyog_metrics(d(x), d(confined(x)))["AUROC"] for d in (local, whole)}
    assert auroc[local] > 0.95
    assert auroc[whole] < 0.5  # neither ID nor ID with a residue everywhere


def test_it_never_scores_lower_and_equals_where_the_residue_is_everywhere(local, whole):
    x = smooth(20, seed=1)
    for images in (x, confined(x), confined(x, side=40)):
        assert (local(images) >= whole(images) - 1e-9).all()
    everywhere = confined(x, side=40)
    assert torch.equal(local.log_likelihoods(everywhere), whole.log_likelihoods(everywhere))


def test_evidence_is_where_the_residue_is_and_about_zero_elsewhere(local):
    x = smooth(20, seed=1)
    found = local.evidence_map(confined(x))
    assert found.shape == (20, 8, 8)
    assert found[:, 5:, 5:].min() > found[:, :3, :3].max()
    assert local.evidence_map(x).mean().abs() < 0.3


def test_maps_score_as_inputs_do(local):
    x = confined(smooth(6, seed=1))
    maps = local.model.stem(x).detach()
    torch.testing.assert_close(local.predict_features(maps), local(x), rtol=1e-3, atol=1e-2)


def test_a_saved_state_scores_alike(local):
    x = confined(smooth(6, seed=1))
    loaded = ViyogResidueLocal(local.model).load_state_dict(local.state_dict())
    assert torch.equal(loaded(x), local(x))
    assert torch.equal(loaded.residue_map(x), local.residue_map(x))
    with pytest.raises(ValueError, match="ViyogResidueLocal, it does not fit a ViyogResidue"):
        ViyogResidue(local.model).load_state_dict(local.state_dict())


def test_in_a_shared_pass(local):
    x = confined(smooth(6, seed=1))
    shared = SharedForward(local.model, {"local": local, "whole": ViyogResidue(None)})
    shared.fit([smooth(100)], names=["whole"])
    torch.testing.assert_close(shared.predict(x)["local"], local(x))


def test_what_is_missing_is_said():
    x = smooth(4)
    with pytest.raises(RequiresFittingException):
        ViyogResidueLocal(build(SmallNet)).evidence_map(x)
    with pytest.raises(RequiresFittingException):
        ViyogResidue(build(SmallNet)).residue_map(x)
    bare = ViyogResidue(None, layer=build(SmallNet).stem.conv, input_range=1.0)
    with pytest.raises(ModelNotSetException):
        bare.fit_features(torch.rand(8, 12, 10, 10)).residue_map(x)


def test_not_finite_is_refused(local):
    x = smooth(4)
    x[1, 0, 20, 20] = torch.nan
    with pytest.raises(ValueError, match="must be finite"):
        local.residue_map(x)
