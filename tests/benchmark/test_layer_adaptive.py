"""LayerAdaptive and its one-class SVMs, on cases that can be reckoned."""

import digits
import numpy as np
import pytest
import torch
from manners import untouched
from pytorch_ood.api import ModelNotSetException, RequiresFittingException
from pytorch_ood.metrics.functional import auroc
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog.benchmark.baselines.layer_adaptive import LayerAdaptive
from pytorch_ood_viyog.benchmark.baselines.one_class import OneClassLayer, pseudo_outliers
from pytorch_ood_viyog.layer.outputs import LayerOutputs, evenly_spread


class TestPseudoOutliers:
    def test_on_a_line(self):
        """Of evenly spaced points on a line only the two ends have all neighbours on one side."""
        points = np.arange(100.0)[:, None]
        outside = pseudo_outliers(points)
        # k = ceil(5 log10 100) = 10 neighbours: the ends are 1 to 10 away from them, 5.5 in mean
        np.testing.assert_allclose(np.sort(outside[:, 0]), [-5.5, 104.5])

    def test_around_a_disc(self):
        generator = np.random.default_rng(0)
        angle, radius = generator.random(2000) * 2 * np.pi, generator.random(2000) ** 0.5
        points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        outside = pseudo_outliers(points)
        assert len(outside) > 20
        assert np.median(np.linalg.norm(outside, axis=1)) > 1

    def test_copies_of_one_point(self):
        assert np.isfinite(pseudo_outliers(np.ones((20, 3)))).all()


class TestOneClassLayer:
    def test_unseen_id_samples_have_mean_0_and_deviation_1(self):
        generator = np.random.default_rng(0)
        layer = OneClassLayer.fit(generator.normal(5, 3, (2000, 4)), nu=0.1, seed=0)
        scores = layer.score(generator.normal(5, 3, (2000, 4)))
        assert abs(scores.mean()) < 0.15
        assert abs(scores.std() - 1) < 0.15

    def test_farther_is_more_anomalous(self):
        generator = np.random.default_rng(0)
        layer = OneClassLayer.fit(generator.normal(size=(500, 3)), nu=0.01, seed=0)
        along = np.linspace(0, 6, 7)[:, None] * np.ones((1, 3))
        assert (np.diff(layer.score(along)[:5]) > 0).all()

    def test_scale_of_the_features_does_not_matter(self):
        features = np.random.default_rng(0).normal(size=(300, 3))
        one, other = (OneClassLayer.fit(f, 0.01, 0) for f in (features, 1000 * features + 7))
        assert one.width == other.width
        np.testing.assert_allclose(
            one.score(features), other.score(1000 * features + 7), rtol=1e-6
        )

    def test_a_constant_feature(self):
        features = np.random.default_rng(0).normal(size=(100, 3)) * [1, 1, 0]
        assert np.isfinite(OneClassLayer.fit(features, 0.01, 0).score(features)).all()

    def test_numpy_state_is_kept(self):
        np.random.seed(3)
        state = np.random.get_state()[1].copy()
        OneClassLayer.fit(np.random.default_rng(0).normal(size=(50, 2)), 0.01, 0)
        assert (np.random.get_state()[1] == state).all()


@pytest.fixture(scope="module")
def model():
    return digits.trained()


@pytest.fixture(scope="module")
def loader():
    return DataLoader(TensorDataset(*digits.images()[0]), batch_size=200)


@pytest.fixture(scope="module")
def fitted(model, loader):
    return LayerAdaptive(model).fit(loader)


def test_default_layers_are_convolutions_and_linear_in_order(fitted):
    assert fitted.layers == ["0", "2", "5", "9"]


def test_features_are_spatial_means_and_the_largest_layer_decides(fitted, model):
    x = digits.images()[1][0][:20]
    means = []
    for end in (1, 3, 6, 10):
        output = model[:end](x).detach()
        means.append(output.mean(dim=(2, 3)) if output.dim() == 4 else output)
    scores = fitted.layer_scores(means)
    assert scores.shape == (20, 4)
    torch.testing.assert_close(fitted(x), scores.max(dim=1).values)
    own = torch.stack(
        [
            torch.from_numpy(m.score(f.double().numpy()))
            for m, f in zip(fitted._machines, means, strict=True)
        ]
    )
    torch.testing.assert_close(scores, own.T)


def test_inverted_digits_are_anomalous(fitted):
    x = digits.images()[1][0]
    scores = torch.cat([fitted(x), fitted(1 - x)])
    labels = torch.cat([torch.zeros(len(x)), -torch.ones(len(x))])
    assert auroc(scores, labels) > 0.95


def test_batches_and_ood_labels_do_not_matter(model, loader):
    (x, y), (test, _) = digits.images()
    junk = torch.rand(30, 1, 8, 8)
    mixed = DataLoader(
        TensorDataset(torch.cat([x, junk]), torch.cat([y, -torch.ones(30).long()])), batch_size=37
    )
    one = LayerAdaptive(model, ["0", "9"]).fit(loader)
    other = LayerAdaptive(model, ["0", "9"]).fit(mixed, progress=False)
    torch.testing.assert_close(one(test), other(test), rtol=1e-4, atol=1e-4)


def test_the_model_is_left_as_found(model, loader):
    x = torch.rand(2, 1, 8, 8)
    with untouched(model):
        LayerAdaptive(model, ["5"]).fit(loader)(x)


def test_sequences_are_averaged_over_their_positions():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, x):
            return self.linear(x).sum(dim=1)

    model, x = Tokens(), torch.rand(40, 6, 3)
    detector = LayerAdaptive(model).fit([x])
    expected = detector.predict_structured([model.linear(x).detach().mean(dim=1)])
    torch.testing.assert_close(detector(x), expected)


def test_at_most_max_samples_are_used(model, loader):
    detector = LayerAdaptive(model, ["9"], max_samples=50).fit(loader)
    assert detector._machines[0].svm.shape_fit_[0] == 35  # 70 % of 50


def test_errors(model):
    with pytest.raises(RequiresFittingException):
        LayerAdaptive(model)(torch.rand(1, 1, 8, 8))
    with pytest.raises(ModelNotSetException):
        LayerAdaptive(None).fit([torch.rand(1, 1, 8, 8)])
    with pytest.raises(ValueError, match="unknown among them"):
        LayerAdaptive(model, ["nowhere"])
    with pytest.raises(ValueError, match="nu must be"):
        LayerAdaptive(model, nu=2)
    with pytest.raises(ValueError, match="at least 10"):
        LayerAdaptive(model).fit([torch.rand(4, 1, 8, 8)])
    with pytest.raises(ValueError, match="no ID samples"):
        LayerAdaptive(model).fit([(torch.rand(2, 1, 8, 8), -torch.ones(2))])
    with pytest.raises(ValueError, match="NaN or inf"):
        LayerAdaptive(None).fit_structured([torch.full((20, 3), float("nan"))])


def test_a_failed_fit_keeps_the_old_state(model, fitted):
    x = digits.images()[1][0][:5]
    before = fitted(x)
    with pytest.raises(ValueError, match="at least 10"):
        fitted.fit([x])
    torch.testing.assert_close(fitted(x), before)


class TestLayerOutputs:
    def test_execution_order_and_first_run(self):
        class Late(nn.Module):
            def __init__(self):
                super().__init__()
                self.second, self.first = nn.Linear(3, 3), nn.Linear(3, 3)
                self.never = nn.Linear(3, 3)

            def forward(self, x):
                return self.first(self.second(self.first(x)))

        model, x = Late(), torch.rand(2, 3)
        outputs = LayerOutputs(model).run(x, lambda name, output: output.clone())
        assert list(outputs) == ["first", "second"]
        torch.testing.assert_close(outputs["first"], model.first(x))

    def test_hooks_are_removed_after_an_error(self, model):
        def fail(name, output):
            raise ArithmeticError

        x = torch.rand(1, 1, 8, 8)
        with untouched(model), pytest.raises(ArithmeticError):
            LayerOutputs(model).run(x, fail)

    @pytest.mark.parametrize(
        ("count", "at_most", "kept"),
        [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (4, 1, [3]), (6, 2, [0, 5])],
    )
    def test_evenly_spread(self, count, at_most, kept):
        assert evenly_spread(list(range(count)), at_most) == kept
