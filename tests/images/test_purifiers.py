"""Purifiers take noise out and leave images as they are; black and white are found."""

import numpy as np
import pytest
import torch

from pytorch_ood_viyog.images import purifiers
from pytorch_ood_viyog.images.pixel_range import PixelRange
from pytorch_ood_viyog.images.purifiers import IMAGE_PURIFIERS, jpeg_quality, purified_images

SMOOTH = torch.linspace(0.2, 0.8, 24).view(1, 1, 24, 1).expand(2, 3, 24, 24).clone()
NOISE = 4 / 255 * torch.randn(SMOOTH.shape, generator=torch.Generator().manual_seed(0))
STRENGTHS = torch.full((2,), 4 / 255)


@pytest.mark.parametrize("name", IMAGE_PURIFIERS)
def test_noise_is_taken_out_of_each_image_with_its_own_strength(name):
    pytest.importorskip(IMAGE_PURIFIERS[name].library or "torch")
    purified = purified_images(name, 0.5 + NOISE, STRENGTHS)
    left = (purified - 0.5)[..., 2:-2, 2:-2].square().mean()
    assert purified.shape == NOISE.shape
    assert left < 0.75 * NOISE[..., 2:-2, 2:-2].square().mean()
    images = SMOOTH + NOISE
    purified = purified_images(name, images, torch.tensor([0.0, 4 / 255]))
    assert torch.equal(purified[0], images[0])
    alone = purified_images(name, images[1:], torch.tensor([4 / 255]))
    assert torch.equal(purified[1:], alone)
    # type and empty batches stay
    assert purified_images(name, SMOOTH.half(), STRENGTHS).dtype == torch.float16
    assert purified_images(name, SMOOTH[:0], STRENGTHS[:0]).shape == (0, 3, 24, 24)


def test_what_lies_outside_the_range_is_kept():
    images = SMOOTH + 2.0
    purified = purified_images("nlm", images, STRENGTHS)
    assert torch.allclose(purified, images)


def test_the_strength_sets_the_jpeg_quality():
    # 100 · 6 · 255 · σ / 58 percent of the table: 41.4 at 4/255, and (200 - 41.4) / 2
    assert jpeg_quality(4 / 255) == 79
    assert jpeg_quality(0.0) == 95
    assert jpeg_quality(1.0) == 5


def test_jpeg_takes_grey_and_refuses_other_channels():
    pytest.importorskip("PIL")
    assert purified_images("jpeg", SMOOTH[:, :1], STRENGTHS).shape == (2, 1, 24, 24)
    with pytest.raises(ValueError, match=r"1 or 3 channels, got 2.*'maps'"):
        purified_images("jpeg", SMOOTH[:, :2], STRENGTHS)


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got \(2, 3, 24\)"):
        purified_images("nlm", SMOOTH[..., 0], STRENGTHS)


@pytest.mark.parametrize(("name", "package"), [("nlm", "scikit-image"), ("jpeg", "Pillow")])
def test_a_missing_library_is_named(name, package, monkeypatch):
    def fail(module):
        raise ImportError(module)

    monkeypatch.setattr(purifiers.importlib, "import_module", fail)
    with pytest.raises(ImportError, match=rf"needs {package}.*pytorch-ood-viyog\[purify\]"):
        purified_images(name, SMOOTH, STRENGTHS)


# -- black and white ---------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_usual_ranges_are_found(low, high):
    x = low + (high - low) * torch.linspace(0.02, 0.98, 192).view(1, 3, 8, 8)
    found = PixelRange.of(x, None)
    assert found.low.tolist() == [low] * 3
    assert found.high.tolist() == [high] * 3


def test_normalised_inputs_have_a_range_a_channel():
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    image = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    x = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    found = PixelRange.of(x, None)
    assert np.allclose(found.low, -mean / std)
    assert np.allclose(found.high, (1 - mean) / std)
    assert torch.allclose(found.images(x), image, atol=1e-6)
    assert torch.allclose(found.inputs(found.images(x), x), x, atol=1e-6)


def test_a_constant_channel_gets_the_range_of_the_widest():
    x = torch.stack([torch.full((8, 8), 3.0), 5 * torch.linspace(-1, 1, 64).view(8, 8)])[None]
    found = PixelRange.of(x, None)
    assert found.low.tolist() == [3.0, -5.0]
    assert found.high.tolist() == [13.0, 5.0]


def test_a_range_can_be_given():
    found = PixelRange.of(SMOOTH, ((0.0, -1.0, -2.0), 4.0))
    assert found.low.tolist() == [0, -1, -2]
    assert found.high.tolist() == [4, 4, 4]


def test_bad_ranges_are_refused():
    with pytest.raises(ValueError, match="each one number or one for each of the 3 channels"):
        PixelRange.of(SMOOTH, ((0.0, 0.0), 1.0))
    with pytest.raises(ValueError, match="White must be above black"):
        PixelRange.of(SMOOTH, (1.0, 1.0))


def test_simulated_noise_has_its_strength_and_stays_in_range():
    found = PixelRange.of(SMOOTH, (0.0, 1.0))
    noisy = found.noisy(SMOOTH, 4 / 255, seed=0)
    assert float((noisy - SMOOTH).std()) == pytest.approx(4 / 255, rel=0.05)
    assert torch.equal(noisy, found.noisy(SMOOTH, 4 / 255, seed=0))
    assert float(found.noisy(SMOOTH, 1.0, seed=0).max()) <= 1


@pytest.mark.parametrize("scale", [1.0, 255.0, 4.4])
@pytest.mark.parametrize("side", [8, 32])
def test_simulated_noise_has_the_levels_of_the_inputs(scale, side):
    levels = torch.randint(0, 256, (4, 3, side, side), generator=torch.Generator().manual_seed(0))
    x = levels * scale / 255
    found = PixelRange.of(x, (0.0, scale))
    noise = (found.noisy(x, 4 / 255, seed=0) - x) * 255 / scale
    torch.testing.assert_close(noise, noise.round(), rtol=0, atol=1e-3)
    assert float(noise.std()) == pytest.approx(4, rel=0.15)
    floats = x * 0.98 + 0.02 * scale * torch.rand(x.shape)
    noise = (found.noisy(floats, 4 / 255, seed=0) - floats) * 255 / scale
    assert float((noise - noise.round()).abs().max()) > 0.3


def test_jpeg_is_told_what_it_cannot_hold():
    found = PixelRange.of(SMOOTH, (0.0, 1.0))
    found.check(SMOOTH)
    with pytest.raises(ValueError, match=r"between 0\.4 and 1\.6.*pixel_range=\(black, white\)"):
        found.check(2 * SMOOTH)
