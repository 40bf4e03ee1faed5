"""Models that are sharded, or hold layers that are wrapped."""

import pytest
import torch
from inside import Small
from pytorch_ood.detector import KNN
from smooth_images import images
from torch import distributed, nn

from pytorch_ood_viyog import SharedForward, ViyogResidue, with_score
from pytorch_ood_viyog.layer.finding import find_layer

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch without distributed")


@pytest.fixture(scope="module", autouse=True)
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def plain():
    return ViyogResidue(Small()).fit([images(70, 0, 32)], progress=False)


def in_one():
    return sharded(Small())


def in_parts():
    model = Small()
    model.stem, model.head = sharded(model.stem), sharded(model.head)
    return sharded(model)


def in_place():
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    mesh = distributed.device_mesh.init_device_mesh("cpu", (1,))
    model = Small()
    fsdp.fully_shard(model.stem, mesh=mesh)
    return fsdp.fully_shard(model, mesh=mesh)


def sharded(module):
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    return fsdp.FullyShardedDataParallel(module, device_id=torch.device("cpu"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [in_one, in_parts, in_place])
def test_sharded_models(make, plain):
    model, x, y = make(), images(70, 0, 32), images(8, 1, 32)
    detector = ViyogResidue(model).fit([x], progress=False)
    torch.testing.assert_close(detector(y), plain(y))
    assert detector.verify(y).right
    shared = SharedForward(model, {"own": ViyogResidue(None), "knn": KNN(None, k=3)})
    shared.fit([(x, torch.zeros(70).long())], progress=False)
    torch.testing.assert_close(shared.predict(y)["own"], plain(y))
    with pytest.raises(TypeError, match=r"cannot be copied.*scored before they are sharded"):
        with_score(model, detector)
    # what was fitted to it scores the model itself
    torch.testing.assert_close(with_score(Small(), detector)(y)[1], plain(y))
    assert find_layer(model, "stem") == detector.layer_name


def test_layers_inside_of_wrappers_are_found_by_their_own_names():
    model = Small()
    model.stem = torch.compile(model.stem, backend="eager")
    assert find_layer(model, "stem") == "stem._orig_mod"
    assert find_layer(model, "module._orig_mod.stem") == "stem._orig_mod"
    assert find_layer(Small(), "stem._orig_mod") == "stem"
    averaged = torch.optim.swa_utils.AveragedModel(Small())
    assert find_layer(averaged, "module.stem") == "module.stem"
    assert isinstance(averaged.module.get_submodule("stem"), nn.Conv2d)
