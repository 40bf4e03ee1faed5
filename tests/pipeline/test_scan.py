"""layer_scan against values by hand and by the layer's own output."""

import digits
import pytest
import torch
from manners import untouched
from pytorch_ood.metrics.functional import auroc
from torch import nn
from torch.utils.data import DataLoader

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.pipeline.scan import LAYER_STATISTICS, energy, layer_scan


@pytest.fixture(scope="module")
def model():
    return digits.trained()


@pytest.fixture(scope="module")
def populations():
    x = digits.images()[1][0]
    return x[:60], 1 - x[60:100]


def test_energy_by_hand():
    output = torch.tensor([[[0.0, 0.0]], [[2.0, float("-inf")]]])
    expected = torch.tensor([-0.6931471805599453, -2.0], dtype=torch.float64)
    torch.testing.assert_close(energy(output), expected)


def test_auroc_by_hand():
    """The only layer doubles its input: sums of B are 5 and 1, those of A are 2, 3, 4."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2)
    model = nn.Sequential(model)
    a, b = torch.tensor([[2.0], [3.0], [4.0]]), torch.tensor([[5.0], [1.0]])
    (row,) = layer_scan(model, [a], [b], "linf")
    assert row["AUROC"] == pytest.approx(3 / 6)
    (row,) = layer_scan(model, [a], [b[:1]], "energy")  # energy is minus the activation
    assert (row["AUROC"], row["Folded"]) == (0, 1)
    assert (row["A"], row["B"], row["Layer"], row["Kind"]) == (3, 1, "0", "Linear")


@pytest.mark.parametrize("statistic", ["energy", "linf"])
def test_every_layer_has_its_own_output(model, populations, statistic):
    a, b = populations
    rows = layer_scan(model, a.split(25), b.split(25), statistic, progress=False)
    assert [row["Layer"] for row in rows] == ["0", "2", "5", "9"]
    labels = torch.cat([torch.zeros(len(a)), -torch.ones(len(b))])
    for row, end in zip(rows, (1, 3, 6, 10), strict=True):
        output = model[:end](torch.cat([a, b])).detach().flatten(1)
        value = output.abs().amax(1) if statistic == "linf" else -output.logsumexp(1)
        assert row["AUROC"] == pytest.approx(float(auroc(value, labels)), abs=1e-3)
        assert row["Folded"] == max(row["AUROC"], 1 - row["AUROC"])
        assert row["BeatsLast"] == (row["Folded"] > rows[-1]["Folded"])
    assert not rows[-1]["BeatsLast"]


def test_swapping_the_populations_turns_the_direction(model, populations):
    a, b = populations
    there, back = (layer_scan(model, [p], [q]) for p, q in ((a, b), (b, a)))
    for one, other in zip(there, back, strict=True):
        assert one["AUROC"] + other["AUROC"] == pytest.approx(1)
        assert one["Folded"] == pytest.approx(other["Folded"])


def test_tv_has_layers_with_maps_only(model, populations):
    rows = layer_scan(model, [populations[0]], [populations[1]], "tv")
    assert [row["Layer"] for row in rows] == ["0", "2", "5"]


def test_residue_is_the_detector_at_each_convolution(model, populations):
    clean = digits.images()[0][0][:100]
    noisy = (populations[0] + 0.1 * torch.randn(60, 1, 8, 8).sign()).clamp(0, 1)
    rows = layer_scan(
        model, [populations[0]], [noisy], "residue", fit_loader=clean.split(50), progress=False
    )
    assert [row["Layer"] for row in rows] == ["0", "2", "5"]
    detector = ViyogResidue(None, layer=model[0], sample_size=64)
    detector.fit_features(model[0](clean).detach())
    scores = [detector.predict_features(model[0](x).detach()) for x in (populations[0], noisy)]
    labels = torch.cat([torch.zeros(60), -torch.ones(60)])
    assert rows[0]["AUROC"] == pytest.approx(float(auroc(torch.cat(scores), labels)))


def test_batch_norm_before_an_in_place_activation():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True)).eval()
    a, b = torch.rand(9, 1, 6, 6), 2 * torch.rand(9, 1, 6, 6)
    rows = layer_scan(model, [a], [b], "energy")
    assert [row["Kind"] for row in rows] == ["Conv2d", "BatchNorm2d"]
    before = model[1](model[0](torch.cat([a, b]))).flatten(1)
    labels = torch.cat([torch.zeros(9), -torch.ones(9)])
    expected = float(auroc(-before.logsumexp(1).detach(), labels))
    assert rows[1]["AUROC"] == pytest.approx(expected)


def test_only_named_layers_and_the_model_as_found(model, populations):
    loaders = [DataLoader(p, batch_size=20) for p in populations]
    with untouched(model):
        rows = layer_scan(model, *loaders, layers=["5"])
    assert [row["Layer"] for row in rows] == ["5"]
    assert rows == layer_scan(model, [populations[0]], [populations[1]], layers=["5"])


def test_errors(model, populations):
    a, b = populations
    with pytest.raises(ValueError, match="statistic must be one of"):
        layer_scan(model, [a], [b], "median")
    assert {"energy", "linf", "tv", "residue"} == set(LAYER_STATISTICS)
    with pytest.raises(ValueError, match="fit_loader is needed"):
        layer_scan(model, [a], [b], "residue")
    with pytest.raises(ValueError, match="fit_loader is needed"):
        layer_scan(model, [a], [b], "energy", fit_loader=[a])
    with pytest.raises(ValueError, match="loader_b is empty"):
        layer_scan(model, [a], [])
    with pytest.raises(ValueError, match="applies to none"):
        layer_scan(model, [a], [b], "tv", layers=["9"])
    with pytest.raises(ValueError, match="NaN or inf"):
        layer_scan(model, [a * float("nan")], [b])
