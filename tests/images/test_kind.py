"""Which levels images have, whatever normalisation came after; what is not as at fit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytorch_ood_viyog.images.filters import gaussian_blur
from pytorch_ood_viyog.images.kind import ImageKind, is_rounded, level_steps


def floats(count=2, size=32, seed=0):
    x = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    x = gaussian_blur(x, 1.0)
    return (x - x.min()) / (x.max() - x.min())


def rounded(**kwargs):
    return (floats(**kwargs) * 255).round() / 255


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.05, 300), st.floats(-3, 3), st.integers(0, 99), st.sampled_from([24, 32, 64, 100])
)
def test_levels_are_found_after_any_normalisation_and_only_there(scale, shift, seed, size):
    x = rounded(seed=seed, size=size) * scale + shift
    assert is_rounded(x)
    steps = level_steps(x)
    torch.testing.assert_close(steps, torch.full_like(steps, scale / 255), rtol=1e-3, atol=0)
    assert not is_rounded(floats(seed=seed, size=size) * scale + shift)


def test_one_image_of_floats_among_others_is_found():
    assert not is_rounded(torch.cat([rounded(), floats(count=1)]))


def test_images_too_plain_to_tell():
    plain = torch.full((1, 3, 32, 32), 51 / 255)
    assert torch.isinf(level_steps(plain)).all()
    assert is_rounded(plain)
    assert not is_rounded(torch.full((1, 3, 32, 32), 0.1))
    assert is_rounded(rounded(size=8))
    assert not is_rounded(floats(size=8))
    assert is_rounded(torch.zeros(0, 3, 8, 8))


def kind(x):
    low, high = torch.aminmax(x.double().transpose(0, 1).flatten(1), dim=1)
    steps = level_steps(x).amin(dim=0)
    return ImageKind(low, high, steps, tuple(x.shape[2:]))


@pytest.mark.parametrize("normalise", [lambda x: x, lambda x: x * 255, lambda x: (x - 0.45) / 0.2])
def test_images_of_the_same_kind_differ_in_nothing(normalise):
    fitted = kind(normalise(rounded(count=8)))
    assert fitted.differences(normalise(rounded(seed=5))) == []
    assert fitted.differences(normalise(rounded(seed=5) / 255 * 255 * 0 + 1)) == []
    fitted = kind(normalise(floats(count=8)))
    assert fitted.differences(normalise(floats(seed=5))) == []


def test_what_is_not_as_at_fit_is_said():
    fitted = kind(rounded(count=8))
    (said,) = fitted.differences(floats(seed=5))
    assert "between the 8-bit levels" in said
    (said,) = fitted.differences(rounded(seed=5) * 255)
    assert "at fit they did from 0 to 1 (another normalisation?)" in said
    (said,) = fitted.differences((rounded(seed=5) - 0.45) / 0.2)
    assert "another normalisation?" in said
    (said,) = fitted.differences(rounded(size=48))
    assert "the size is (48, 48), at fit it was (32, 32)" in said
    (said,) = kind(floats(count=8)).differences(rounded(seed=5))
    assert "8-bit levels, at fit they had none" in said
    normalised = kind((rounded(count=8) - 0.45) / 0.2)
    (said,) = normalised.differences(rounded(seed=5))
    assert "normalised otherwise" in said


def test_what_a_glance_tells():
    fitted = kind((rounded(count=8) - 0.45) / 0.2)
    assert not fitted.plainly_differs((rounded(seed=5) - 0.45) / 0.2)
    assert not fitted.plainly_differs(rounded(seed=5))  # levels are not looked at
    assert fitted.plainly_differs(rounded(seed=5) * 255)
    assert fitted.plainly_differs((rounded(size=48) - 0.45) / 0.2)


def test_what_each_image_has_of_its_own_is_no_step_whatever_follows():
    apart = [each / each.std() for each in rounded(count=3).split(1)]
    one = ImageKind.of(apart[0])
    for other in (*apart[1:], rounded(count=1), floats(count=1)):
        one = one.together(ImageKind.of(other))
        assert all(bool(torch.isfinite(each).all()) for each in one.tensors().values())
    assert one.differences(floats(seed=5)) == one.differences(rounded(seed=5)) == []
