"""The mathematics of ViyogTV, and its parity with the published package ``viyog`` 0.1.3."""

import numpy as np
import pytest
import torch
import viyog
from torch import nn

from pytorch_ood_viyog import ViyogTV
from pytorch_ood_viyog.detectors.tv import dormant_band, total_variation


def naive_total_variation(channel):
    """Loop over neighbours, axis by axis, in double precision."""
    channel = np.asarray(channel, dtype=np.float64)
    roughness = 0.0
    for axis in range(channel.ndim):
        lines = np.moveaxis(channel, axis, 0)
        steps = [np.abs(lines[i + 1] - lines[i]) for i in range(len(lines) - 1)]
        roughness += np.mean(steps)
    return roughness / (np.mean(np.abs(channel)) + 1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 5, 7), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_total_variation_against_a_loop(shape, dtype):
    maps = torch.randn(shape, dtype=dtype)
    expected = [[naive_total_variation(channel) for channel in sample] for sample in maps]
    np.testing.assert_allclose(total_variation(maps), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 3, 1, 5), (2, 3, 5, 1), (2, 3, 4, 1, 4)])
def test_a_single_position_along_an_axis_has_no_variation(shape):
    assert torch.equal(total_variation(torch.randn(shape)), torch.zeros(2, 3))
    detector = ViyogTV(None).fit_features(torch.randn(shape))
    assert torch.equal(detector.predict_features(torch.randn(shape)), torch.zeros(2))


@pytest.mark.parametrize(
    ("profile", "band", "threshold", "expected"),
    [
        ([0.5, 1e-5, 0.1, 0.3, 0.0, 0.2], 0.5, 1e-4, [2, 5]),  # the quietest of the alive
        ([0.5, 1e-5, 0.1, 0.3, 0.0, 0.2], 1.0, 1e-4, [2, 5, 3, 0]),
        ([0.5, 1e-5, 0.1, 0.3, 0.0, 0.2], 0.10, 1e-4, [2]),  # fewer than ten: one channel
        ([0.5, 1e-5, 0.1, 0.3, 0.0, 0.2], 0.5, 0.25, [3]),
        ([0.25, 0.5], 0.1, 0.25, [1]),  # at the threshold a channel is dead
        ([*range(1, 30)], 0.10, 1e-4, [0, 1]),  # rounded down
        ([1.0] * 20, 0.2, 1e-4, [0, 1, 2, 3]),  # equal channels in their order
        ([3e-5, 1e-5, 2e-5], 0.7, 1e-4, [1, 2]),  # all dead
    ],
)
def test_the_dormant_band(profile, band, threshold, expected):
    assert dormant_band(torch.tensor(profile).double(), band, threshold).tolist() == expected


def test_all_channels_zero():
    detector = ViyogTV(None).fit_features(torch.zeros(4, 3, 5, 5))
    assert detector.dormant_channels.tolist() == [0]
    assert torch.equal(detector.predict_features(torch.zeros(4, 3, 5, 5)), torch.zeros(4))
    assert bool(detector.predict_features(torch.randn(4, 3, 5, 5)).isfinite().all())


def test_fitted_attributes():
    maps = torch.randn(30, 20, 6, 6) * torch.arange(20, 0, -1).view(20, 1, 1)
    detector = ViyogTV(None)
    assert detector.channel_profile is None
    assert detector.dormant_channels is None
    detector.fit_features(maps)
    expected = maps.double().abs().mean(dim=(0, 2, 3))
    assert detector.channel_profile.dtype == torch.float64
    torch.testing.assert_close(detector.channel_profile, expected, rtol=1e-6, atol=0)
    assert detector.dormant_channels.tolist() == [19, 18]


@pytest.mark.parametrize("shape", [(5, 12, 30), (5, 12, 6, 7), (5, 12, 4, 5, 6)])
def test_score_by_an_independent_formula(shape):
    scale = torch.rand(12).view(1, 12, *[1] * (len(shape) - 2))
    maps = torch.randn(shape) * scale
    detector = ViyogTV(None, band=0.25).fit_features(maps)
    profile = np.abs(maps.numpy()).mean(axis=(0, *range(2, len(shape))))
    band = np.argsort(profile)[:3]
    expected = [np.mean([naive_total_variation(sample[c]) for c in band]) for sample in maps]
    scores = detector.predict_features(maps)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_scores_do_not_depend_on_the_scale_of_the_maps(scale):
    maps = torch.randn(20, 12, 6, 6, dtype=torch.float64)
    one = ViyogTV(None).fit_features(maps).predict_features(maps)
    other = ViyogTV(None).fit_features(scale * maps).predict_features(scale * maps)
    torch.testing.assert_close(other, one, rtol=2e-4, atol=0)  # but for the 1e-6


def parity_models():
    two = [
        nn.Sequential(nn.Conv2d(3, channels, size, stride=stride), nn.Conv2d(channels, 2, 1))
        for channels, size, stride in [(4, 3, 1), (16, 3, 1), (64, 7, 2), (96, 4, 4)]
    ]
    one = [
        nn.Sequential(nn.Conv1d(3, channels, size), nn.Conv1d(channels, 2, 1))
        for channels, size in [(4, 3), (40, 9)]
    ]
    return [(m, (3, 32, 32)) for m in two] + [(m, (3, 100)) for m in one]


@pytest.mark.parametrize(
    ("case", "scale", "band", "threshold"),
    [
        (0, 1.0, 0.10, 1e-4),
        (1, 1e-3, 0.10, 1e-4),
        (2, 300.0, 0.35, 0.3),
        (3, 1.0, 0.35, 0.3),
        (4, 300.0, 0.10, 1e-4),
        (5, 1e-3, 0.35, 0.3),
    ],
)
def test_parity_with_the_published_package(case, scale, band, threshold):
    model, shape = parity_models()[case]
    model.eval()
    fit = scale * torch.rand(48, *shape)
    test = scale * torch.rand(20, *shape) ** 2
    batches = list(fit.split(16))
    with viyog.Viyog(model, dorm_pct=band, dead_thresh=threshold) as published:
        published.fit(batches)
        expected = published.score(test)
        expected_profile, expected_band = published.id_profile_, published.dorm_idx_
    detector = ViyogTV(model, band=band, dead_threshold=threshold).fit(batches)
    torch.testing.assert_close(
        detector.channel_profile.float(), expected_profile, rtol=1e-6, atol=0
    )
    assert detector.dormant_channels.tolist() == expected_band.tolist()
    torch.testing.assert_close(detector(test), expected, rtol=1e-5, atol=0)


def test_parity_with_dead_channels():
    model = nn.Sequential(nn.Conv2d(3, 40, 3)).eval()
    with torch.no_grad():
        model[0].weight[::2] = 0
        model[0].bias[::2] = 0
    x = torch.rand(32, 3, 12, 12)
    with viyog.Viyog(model) as published:
        expected = published.fit([x]).score(x)
    torch.testing.assert_close(ViyogTV(model).fit([x])(x), expected, rtol=1e-5, atol=0)


def test_raw_output_counts_where_the_published_package_reads_the_activation():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(inplace=True)).eval()
    x = torch.rand(16, 3, 12, 12)
    raw = nn.Sequential(model[0])
    with viyog.Viyog(model) as published:
        activated = published.fit([x]).score(x)
    with viyog.Viyog(raw) as published:
        expected = published.fit([x]).score(x)
    scores = ViyogTV(model).fit([x])(x)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=0)
    assert not torch.allclose(scores, activated, rtol=1e-2)


def test_hyperparameters_apply_to_a_fitted_detector():
    maps = torch.randn(30, 20, 6, 6) * torch.arange(1, 21).view(20, 1, 1)
    detector = ViyogTV(None).fit_features(maps)
    detector.set_hyperparameters(band=0.2)
    assert detector.dormant_channels.tolist() == [0, 1, 2, 3]
    detector.band = 0.05
    assert detector.dormant_channels.tolist() == [0]
    detector.dead_threshold = 2.0
    assert detector.dormant_channels.tolist() == [2]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"band": 0}, ValueError),
        ({"band": 1.1}, ValueError),
        ({"band": float("nan")}, ValueError),
        ({"band": "0.1"}, TypeError),
        ({"dead_threshold": -1e-4}, ValueError),
        ({"dead_threshold": None}, TypeError),
    ],
)
def test_bad_arguments(arguments, error):
    (name,) = arguments
    with pytest.raises(error, match=f"^{name} must be"):
        ViyogTV(None, **arguments)
    detector = ViyogTV(None).fit_features(torch.randn(4, 20, 5, 5))
    with pytest.raises(error, match=f"^{name} must be"):
        detector.set_hyperparameters(**arguments)
    assert detector.get_hyperparameters() == {"band": 0.10, "dead_threshold": 1e-4}
