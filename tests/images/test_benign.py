"""Benign changes: what they do, in the units they promise, the same for a seed."""

import pytest
import torch
from smooth_images import photo

from pytorch_ood_viyog.images import BENIGN_KINDS, BenignChange
from pytorch_ood_viyog.images.filters import gaussian_blur

MODERATE = {
    "white noise": 8,
    "Poisson-Gaussian noise": 8,
    "correlated noise": 8,
    "demosaiced noise": 8,
    "JPEG": 75,
    "WebP": 80,
    "resampling": 0.5,
    "blur": 1,
    "sharpening": 100,
    "contrast": 0.7,
    "gamma": 1.5,
    "bit depth": 4,
}


def grey(level=0.5, size=256):
    return torch.full((1, 3, size, size), level)


@pytest.mark.parametrize("kind", BENIGN_KINDS)
def test_every_kind_gives_other_images_of_8_bit_and_the_same_for_a_seed(kind):
    x, state = photo(), torch.get_rng_state()
    before = x.clone()
    change = BenignChange(kind, MODERATE[kind])
    changed = change(x, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert change(x[:0]).shape == x[:0].shape
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert torch.equal(x, before)
    assert not torch.equal(changed, x)
    assert torch.equal(changed, change(x, seed=3))
    torch.testing.assert_close(changed * 255, (changed * 255).round(), rtol=0, atol=1e-4)
    assert changed.min() >= 0
    assert changed.max() <= 1
    random = kind.endswith("noise")
    assert torch.equal(changed, change(x, seed=4)) != random


@pytest.mark.parametrize("kind", ["white noise", "Poisson-Gaussian noise", "correlated noise"])
def test_noise_has_the_standard_deviation_it_names_at_mid_grey(kind):
    noise = (BenignChange(kind, 8)(grey()) - 0.5) * 255
    assert noise.std().item() == pytest.approx(8, rel=0.02)
    assert abs(noise.mean().item()) < 0.6  # mid-grey is no 8-bit level


def test_shot_noise_grows_with_brightness():
    change = BenignChange("Poisson-Gaussian noise", 4)
    dark, bright = (((change(grey(level)) - level) * 255).std().item() for level in (0.2, 0.8))
    assert bright / dark == pytest.approx(((0.1 + 1.44) / (0.1 + 0.36)) ** 0.5, rel=0.03)


def test_white_noise_is_white_and_correlated_noise_is_not():
    def neighbours(kind):
        noise = BenignChange(kind, 8)(grey()) - 0.5
        flat = torch.stack([noise[..., 1:].flatten(), noise[..., :-1].flatten()])
        return torch.corrcoef(flat)[0, 1].item()

    assert abs(neighbours("white noise")) < 0.01
    kernel = gaussian_blur(torch.eye(1, 9).roll(4).view(1, 1, 1, 9), 0.7).flatten()
    expected = (kernel[1:] * kernel[:-1]).sum() / kernel.square().sum()
    assert neighbours("correlated noise") == pytest.approx(expected.item(), abs=0.01)


def test_demosaiced_noise_is_interpolated_between_measured_pixels():
    noise = BenignChange("demosaiced noise", 16)(grey()) - 0.5
    red = noise[0, 0]
    torch.testing.assert_close(
        red[2:10:2, 1:9:2], (red[2:10:2, 0:8:2] + red[2:10:2, 2:10:2]) / 2, rtol=0, atol=1.1 / 255
    )
    assert (red[::2, ::2] * 255).std().item() == pytest.approx(16, rel=0.05)


def test_tone_and_bit_depth_by_hand():
    x = torch.tensor([0.0, 51.0, 102.0, 255.0]).view(1, 1, 2, 2) / 255
    contrast = BenignChange("contrast", 0.5)(x).flatten() * 255
    assert contrast.round().tolist() in ([64, 89, 115, 191], [64, 90, 115, 191])
    gamma = BenignChange("gamma", 2)(x).flatten() * 255
    assert gamma.round().tolist() == [0, 10, 41, 255]
    assert BenignChange("bit depth", 1)(x).flatten().tolist() == [0, 0, 0, 1]


def test_blur_and_sharpening_by_their_effect_on_an_edge():
    x = torch.zeros(1, 1, 9, 20)
    x[..., 10:] = 200 / 255
    x[..., :10] = 50 / 255
    blurred, sharpened = BenignChange("blur", 1)(x), BenignChange("sharpening", 100)(x)
    assert (blurred[..., 9] > x[..., 9]).all()
    assert (sharpened[..., 9] < x[..., 9]).all()
    # what the unsharp mask adds is what the blur took away, up to rounding
    torch.testing.assert_close(sharpened - x, x - blurred, rtol=0, atol=1.1 / 255)
    assert torch.equal(blurred[..., 0], x[..., 0])


def test_resampling_keeps_the_size_and_what_is_smooth():
    x = torch.linspace(0.2, 0.8, 40).expand(1, 3, 40, 40).contiguous()
    changed = BenignChange("resampling", 0.5)(x)
    torch.testing.assert_close(changed[..., 4:-4], x[..., 4:-4], rtol=0, atol=1 / 255)


def test_it_says_its_name():
    assert str(BenignChange("white noise", 8)) == "white noise 8/255"
    assert str(BenignChange("JPEG", 75)) == "JPEG 75 quality"
    assert str(BenignChange("blur", 0.5)) == "blur 0.5 px"


def test_images_outside_the_range_are_refused():
    change = BenignChange("white noise", 8)
    for x in (photo() * 1.1 + 0.2, photo() - 1, photo() * torch.nan):
        with pytest.raises(ValueError, match=r"Images must be in \[0, 1\], got values from"):
            change(x)


def test_other_tensors_are_refused():
    change = BenignChange("white noise", 8)
    with pytest.raises(TypeError, match=r"floating point tensor, got torch\.uint8"):
        change(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match="floating point tensor, got list"):
        change([0.5])
    with pytest.raises(ValueError, match=r"shape B × C × H × W, got \(3, 4, 4\)"):
        change(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="needs images of 1 or 3 channels, got 4"):
        BenignChange("JPEG", 75)(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="needs images of 3 channels, got 1"):
        BenignChange("demosaiced noise", 4)(torch.zeros(1, 1, 8, 8))
    assert BenignChange("JPEG", 75)(photo(channels=1)).shape == (2, 1, 16, 16)
    assert BenignChange("JPEG", 75).suits(1)
    assert not BenignChange("JPEG", 75).suits(4)


def test_unknown_kinds_and_impossible_strengths_are_refused():
    with pytest.raises(ValueError, match=r"kind must be one of white noise, .*, got 'fog'"):
        BenignChange("fog", 1)
    with pytest.raises(ValueError, match="strength of JPEG must be from 1 to 95, got 0"):
        BenignChange("JPEG", 0)
    with pytest.raises(ValueError, match="strength of blur must be from"):
        BenignChange("blur", float("nan"))
