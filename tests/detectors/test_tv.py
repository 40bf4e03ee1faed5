"""The mathematics of ViyogTV, and its parity with the published package ``viyog`` 0.1.3."""

import numpy as np
import pytest
import torch
import viyog
from torch import nn

from pytorch_ood_viyog import ViyogTV
from pytorch_ood_viyog.detectors.tv import dormant_band, mean_magnitude, total_variation


def naive_total_variation(channel):
    """Loop over neighbours, axis by axis, in double precision."""
    channel = np.asarray(channel, dtype=np.float64)
    roughness = 0.0
    for axis in range(channel.ndim):
        lines = np.moveaxis(channel, axis, 0)
        steps = [np.abs(lines[i + 1] - lines[i]) for i in range(len(lines) - 1)]
        roughness += np.mean(steps)
    return roughness / (np.mean(np.abs(channel)) + 1e-6)


def test_total_variation_by_hand():
    # rows differ by 2, columns by 1; mean magnitude (0 + 1 + 2 + 3) / 4
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    assert total_variation(maps).item() == pytest.approx((2 + 1) / (1.5 + 1e-6))
    assert mean_magnitude(-maps).item() == 1.5


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


def test_a_channel_of_zeros_has_no_variation():
    assert total_variation(torch.zeros(1, 1, 4, 4)).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    maps = torch.randn(4, 3, 6, 6).to(dtype)
    assert torch.equal(total_variation(maps), total_variation(maps.float()))


def test_dormant_band_takes_the_quietest_of_the_alive():
    profile = torch.tensor([0.5, 1e-5, 0.1, 0.3, 0.0, 0.2])
    assert dormant_band(profile, 0.5, 1e-4).tolist() == [2, 5]
    assert dormant_band(profile, 1.0, 1e-4).tolist() == [2, 5, 3, 0]
    assert dormant_band(profile, 0.10, 1e-4).tolist() == [2]  # fewer than ten: one channel
    assert dormant_band(profile, 0.5, 0.25).tolist() == [3]


def test_a_channel_at_the_threshold_is_dead():
    assert dormant_band(torch.tensor([0.25, 0.5]), 0.1, 0.25).tolist() == [1]


def test_band_is_rounded_down():
    profile = torch.arange(1.0, 30.0)  # 29 alive channels
    assert dormant_band(profile, 0.10, 1e-4).tolist() == [0, 1]


def test_equal_channels_are_taken_in_their_order():
    assert dormant_band(torch.ones(20), 0.2, 1e-4).tolist() == [0, 1, 2, 3]


def test_all_channels_dead():
    assert dormant_band(torch.tensor([3e-5, 1e-5, 2e-5]), 0.7, 1e-4).tolist() == [1, 2]
    detector = ViyogTV(None).fit_features(torch.zeros(4, 3, 5, 5))
    assert detector.dormant_channels.tolist() == [0]
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


def test_smooth_scores_below_rough():
    smooth = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8).expand(2, 3, 8, 8)
    rough = smooth + 0.1 * torch.randn(2, 3, 8, 8)
    detector = ViyogTV(None).fit_features(torch.randn(4, 3, 8, 8))
    assert detector.predict_features(smooth).max() < detector.predict_features(rough).min()


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


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("scale", [1.0, 1e-3, 300.0])
@pytest.mark.parametrize(("band", "threshold"), [(0.10, 1e-4), (0.35, 0.3)])
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
