"""The detectors inside pytorch-ood, beyond the contract: beside its own, and pickles."""

import pickle

import pytest
import torch
from pytorch_ood.benchmark import Benchmark
from pytorch_ood.detector import EnergyBased, MaxSoftmax
from pytorch_ood.metrics import OODMetrics
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from pytorch_ood_viyog import ViyogResidue


def labelled(x, label):
    return TensorDataset(x, torch.full((len(x),), label))


@pytest.fixture
def adversarial(images):
    return images + 0.3 * torch.randn(64, 3, 10, 10).sign()


@pytest.fixture
def validation(images, adversarial):
    data = ConcatDataset([labelled(images, 1), labelled(adversarial, -1)])
    return DataLoader(data, batch_size=50)


@pytest.fixture
def small_benchmark(images, adversarial):
    class SmallBenchmark(Benchmark):
        ood_names = ("noise", "bright")

        def train_set(self):
            return labelled(images, 0)

        def test_sets(self, known=True, unknown=True):
            ood = [adversarial, images + 2]
            return [ConcatDataset([labelled(images, 3), labelled(x, -1)]) for x in ood]

    return SmallBenchmark()


def metrics_of(detector, loader):
    metrics = OODMetrics()
    for x, y in loader:
        metrics.update(detector(x), y)
    return metrics.compute()


def test_benchmark_beside_pytorch_ood_detectors(make, model, loader, small_benchmark, validation):
    detector = make(model).fit(loader)
    beside = [MaxSoftmax(model), detector, EnergyBased(model)]
    results = small_benchmark.evaluate(beside, loader_kwargs={"batch_size": 30}, cache=True)
    names = ["MaxSoftmax", type(detector).__name__, "EnergyBased"]
    assert [result["Detector"] for result in results] == names * 2
    assert results[1]["AUROC"] == pytest.approx(metrics_of(detector, validation)["AUROC"])
    logits = torch.cat([model(x) for x, _ in validation])
    labels = torch.cat([y for _, y in validation])
    expected = OODMetrics().update(MaxSoftmax.score(logits), labels).compute()
    assert results[0]["AUROC"] == pytest.approx(expected["AUROC"])


def test_a_pickle_of_another_version_says_so(model):
    detector = pickle.loads(pickle.dumps(ViyogResidue(model)))
    del vars(detector)["directions"]
    with pytest.raises(RuntimeError, match=r"no directions: it was pickled by another"):
        detector.directions  # noqa: B018
