"""The table of baselines: complete, equal to pytorch-ood's own, honest about what is missing."""

import warnings

import digits
import pytest
import torch
from manners import untouched
from pytorch_ood import detector as ood
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog.benchmark.baselines.build import (
    Gram,
    MultiMahalanobis,
    baseline_detectors,
)
from pytorch_ood_viyog.benchmark.baselines.classifier_parts import (
    ClassifierParts,
)
from pytorch_ood_viyog.benchmark.benchmark import AdversarialBenchmark

ASKED_FOR = {
    *("MSP", "MaxLogit", "Energy", "Entropy", "GEN", "KLMatching", "ODIN", "Mahalanobis"),
    *("MultiMahalanobis", "RMD", "kNN", "ViM", "SHE", "ASH", "ReAct", "DICE", "NACUE"),
    *("GradNorm", "Gram", "NNGuide"),
}


@pytest.fixture(scope="module")
def model():
    return digits.trained()


@pytest.fixture(scope="module")
def fit_loader():
    return DataLoader(TensorDataset(*digits.images()[0]), batch_size=200)


@pytest.fixture(scope="module")
def test_images():
    return digits.images()[1][0]


def test_all_of_them_run_and_inverted_digits_are_far_away(model):
    """Every baseline runs in the benchmark; those that measure distances find inverted digits."""
    (x, y), (test, labels) = digits.images()
    bench = AdversarialBenchmark(
        model,
        (test, labels),
        {"inverted": 1 - test},
        {},
        id_train=(x, y),
        resamples=0,
        progress=False,
    )
    with untouched(model):
        rows = bench.evaluate(baseline_detectors(model, x[:2]), fit=True)
    assert {row["Detector"]: row["Error"] for row in rows} == dict.fromkeys(ASKED_FOR, "")
    found = {row["Detector"]: row["AUROC"] for row in rows}
    for name in ("Mahalanobis", "MultiMahalanobis", "kNN", "ViM", "Gram"):
        assert found[name] > 0.9, (name, found[name])


LAYERS = slice(0, 2), slice(2, 4), slice(4, 7)
#: pytorch-ood's own way on a chain, where the table reads a network by itself
OWN = {
    "Mahalanobis": lambda m: ood.Mahalanobis(m[:9]),
    "RMD": lambda m: ood.RMD(m[:9]),
    "kNN": lambda m: ood.KNN(m[:9]),
    "ViM": lambda m: ood.ViM(m[:9], 12, m[9].weight, m[9].bias),
    "ASH": lambda m: ood.ASH(m[:7], m[7:]),
    "ReAct": lambda m: ood.ReAct(m[:7], m[7:]),
    "GradNorm": lambda m: ood.GradNorm(m, param_filter=lambda name: name == "9.weight"),
    "MultiMahalanobis": lambda m: ood.MultiMahalanobis([m[part] for part in LAYERS]),
    "Gram": lambda m: ood.Gram(m[7:], [m[part] for part in LAYERS], num_classes=10),
}


@pytest.mark.parametrize("name", OWN)
def test_scores_are_those_of_pytorch_oods_own_way(name, model, fit_loader, test_images):
    ours = baseline_detectors(model, test_images[:2], [name])[name]
    own = OWN[name](model)
    for detector in (ours, own):
        torch.manual_seed(0)
        detector.fit(fit_loader)
    expected = own(test_images).detach()
    torch.testing.assert_close(ours(test_images).detach(), expected, rtol=1e-3, atol=1e-5)


class NoBias(nn.Module):
    """Pooled by its own forward, without bias, with a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(12, 5, bias=False)
        self.conv = nn.Conv2d(1, 12, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean(dim=(2, 3)))


class TestParts:
    @pytest.mark.parametrize(
        ("name", "head", "maps"),
        [
            ("resnet18", "fc", "layer4"),
            ("mobilenet_v3_small", "classifier.3", None),
            ("squeezenet1_1", None, None),
        ],
    )
    def test_torchvision(self, name, head, maps):
        models = pytest.importorskip("torchvision.models")
        model = models.get_model(name, weights=None, num_classes=7).eval()
        parts = ClassifierParts.of(model, torch.rand(2, 3, 64, 64))
        assert (parts.head_name, parts.maps_name, parts.classes) == (head, maps, 7)
        first = next(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
        assert parts.convolutions[0] == first

    def test_maps_that_in_place_operations_follow(self, test_images):
        model = digits.plain().eval()
        model[6] = nn.ReLU(inplace=True)
        parts = ClassifierParts.of(model, test_images[:2])
        assert parts.maps_name == "6"

    def test_no_logits(self):
        with pytest.raises(ValueError, match="must return logits"):
            ClassifierParts.of(nn.Conv2d(1, 3, 3), torch.rand(2, 1, 8, 8))


def test_ash_on_features_where_pooling_is_no_average(test_images):
    model = NoBias().eval()
    parts = ClassifierParts.of(model, test_images[:2])
    assert (parts.head_name, parts.maps_name) == ("head", None)
    assert torch.equal(parts.bias, torch.zeros(5))
    scores = baseline_detectors(model, test_images[:2], ["ASH"])["ASH"](test_images[:5])
    assert scores.shape == (5,)
    features = model.conv(test_images[:5]).relu().mean(dim=(2, 3))
    own = ood.ASH(lambda x: x, lambda maps: model.head(maps.flatten(1)))
    torch.testing.assert_close(
        scores, own.predict_feature_maps(features.detach()[..., None, None])
    )


def test_what_the_model_cannot_provide_is_left_out_with_the_reason():
    no_head = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.warns(UserWarning, match=r"Mahalanobis: needs a last torch\.nn\.Linear"):
        found = baseline_detectors(no_head, torch.rand(2, 1, 8, 8))
    assert {"MSP", "Gram", "NACUE"} <= set(found)
    assert not {"Mahalanobis", "ViM", "ASH"} & set(found)
    with pytest.raises(ValueError, match="cannot provide for kNN"):
        baseline_detectors(no_head, torch.rand(2, 1, 8, 8), ["kNN"])
    with pytest.warns(UserWarning, match="Gram: needs convolutions"):
        found = baseline_detectors(nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3))
    assert {"MSP", "kNN"} <= set(found)


def test_a_softmax_at_the_end_hides_the_head():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(dim=1))
    assert ClassifierParts.of(model, torch.rand(2, 1, 2, 2)).head_name is None


def test_names(model, test_images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(baseline_detectors(model, test_images[:2], ["kNN", "MSP"])) == ["MSP", "kNN"]
    with pytest.raises(ValueError, match=r"\['knn'\]"):
        baseline_detectors(model, test_images[:2], ["knn"])


def test_detectors_of_layers_keep_the_order_they_are_given(model, fit_loader, test_images):
    forward = MultiMahalanobis(model, ["0", "5"]).fit(fit_loader)
    backward = MultiMahalanobis(model, ["5", "0"]).fit(fit_loader)
    torch.testing.assert_close(forward(test_images), backward(test_images))
    assert [m.shape[1] for m in backward.mu] == [24, 12]
    gram = Gram(model, ["5", "0"], 10)
    _, maps = gram._create_feature_list(test_images[:3])
    assert [m.shape[1] for m in maps] == [24, 12]
