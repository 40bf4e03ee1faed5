"""Whatever maps and labels come, a detector ends in finite scores or in a documented error."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from our_detectors import DETECTORS
from torch import nn

#: these take any finite maps; others may refuse maps that they cannot learn from
TAKES_ANYTHING = {"Viyog", "ViyogTV"}
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}

many = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no fault
)
each_detector = pytest.mark.parametrize("name", DETECTORS)


def detector_for(name, maps):
    """The detector without model, with a convolution that could have made the maps."""
    channels, axes = maps.shape[1], maps.dim() - 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolution = CONVOLUTIONS[axes](3, channels, 3)
    return DETECTORS[name](None, layer=convolution)


@st.composite
def shapes(draw, least_samples=1):
    axes = draw(st.integers(1, 3))
    channels = draw(st.integers(1, 12))
    samples = draw(st.integers(least_samples, least_samples + 3))
    return (samples, channels, *(draw(st.integers(1, 5)) for _ in range(axes)))


@st.composite
def contents(draw, shape):
    """Noise of any scale, constants, zeros, one pixel, channels that are dead or alive."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["noise", "constant", "zero", "pixel", "dead", "ramp"]))
    if kind == "constant":
        noise = torch.ones_like(noise) * draw(st.floats(-2, 2))
    elif kind == "zero":
        noise = torch.zeros_like(noise)
    elif kind == "pixel":
        pixel = torch.zeros_like(noise)
        pixel.view(-1)[draw(st.integers(0, pixel.numel() - 1))] = 1
        noise = pixel
    elif kind == "dead":
        noise[:, :: draw(st.integers(1, 3))] = 0
    elif kind == "ramp":
        noise = torch.arange(noise.numel(), dtype=torch.float64).view(shape)
    return noise * 10.0 ** draw(st.integers(-46, 30))


@st.composite
def layouts(draw, maps):
    """The same values, laid out in memory in another way."""
    kind = draw(st.sampled_from(["contiguous", "channels last", "sliced", "transposed"]))
    if kind == "channels last":
        return maps.movedim(1, -1).contiguous().movedim(-1, 1)
    if kind == "sliced":
        return torch.stack([maps, maps + 1], dim=-1)[..., 0]
    if kind == "transposed":
        return maps.transpose(0, -1).contiguous().transpose(0, -1)
    return maps


@st.composite
def any_maps(draw):
    maps = draw(contents(draw(shapes()))).to(draw(st.sampled_from(DTYPES)))
    return draw(layouts(maps))


def scores_or_error(name, fit_on, score):
    """Scores of a new detector, or the error that it ended in; anything else goes through."""
    detector = detector_for(name, fit_on)
    try:
        return detector.fit_features(fit_on).predict_features(score)
    except (ValueError, TypeError) as error:
        return error


@each_detector
@many
@given(maps=any_maps())
def test_scores_are_finite_or_the_error_says_why(name, maps):
    result = scores_or_error(name, maps, maps)
    if isinstance(result, Exception):
        assert len(str(result)) > 20
        assert name not in TAKES_ANYTHING or not maps.isfinite().all()
        return
    assert result.shape == maps.shape[:1]
    assert result.is_floating_point()
    assert result.isfinite().all()
    assert not result.requires_grad


@each_detector
@many
@given(data=st.data())
def test_other_values_than_fitted(name, data):
    """Fitted on ordinary maps, scored on extreme ones."""
    shape = data.draw(shapes())
    ordinary = torch.randn((16, *shape[1:]), generator=torch.Generator().manual_seed(0))
    extreme = data.draw(contents(shape)).float()
    result = scores_or_error(name, ordinary, extreme)
    if isinstance(result, Exception):
        assert name not in TAKES_ANYTHING or not extreme.isfinite().all()
        assert len(str(result)) > 20
        return
    assert result.isfinite().all()


@each_detector
@many
@given(data=st.data())
def test_memory_layout_changes_nothing(name, data):
    maps = data.draw(contents(data.draw(shapes()))).float()
    other = data.draw(layouts(maps))
    assert torch.equal(maps, other)
    wanted, got = scores_or_error(name, maps, maps), scores_or_error(name, other, other)
    assert type(wanted) is type(got)
    if isinstance(wanted, torch.Tensor):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


NUMBERS = st.one_of(
    st.integers(-3, 3), st.integers(-(2**40), 2**40), st.floats(width=32), st.booleans()
)
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "tensor": torch.tensor,
    "column": lambda values: torch.tensor(values).unsqueeze(1),
    "float": lambda values: torch.tensor(values, dtype=torch.float32),
    "complex": lambda values: torch.tensor(values, dtype=torch.complex64),
    "texts": lambda values: [str(value) for value in values],
    "objects": lambda values: np.array(values, dtype=object),
}


@functools.cache
def fitted_to_others(name):
    """Maps, a detector that was fitted to other maps, and its scores."""
    maps = torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    others = torch.randn(40, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    detector = detector_for(name, maps).fit_features(others)
    return maps, detector, detector.predict_features(maps)


@each_detector
@many
@given(
    values=st.sampled_from([8, 8, 8, 7, 9, 0]).flatmap(
        lambda size: st.lists(NUMBERS, min_size=size, max_size=size)
    ),
    container=st.sampled_from(sorted(CONTAINERS)),
)
@example(values=[0] * 7 + [math.nan], container="array")
def test_labels_of_all_kinds(name, values, container):
    """Labels below 0 are left out; what is no label is refused, and the old state stays."""
    maps, fitted, before = fitted_to_others(name)
    detector = copy.deepcopy(fitted)
    try:
        labels = CONTAINERS[container](values)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        assume(False)
    usable = container in ("list", "tuple", "array", "tensor", "float")
    known = [index for index, value in enumerate(values) if value >= 0]
    error = None
    try:
        detector.fit_features(maps, labels)
    except (ValueError, TypeError) as caught:
        error = caught
    if error is not None:
        assert len(str(error)) > 20
        assert torch.equal(detector.predict_features(maps), before)
        broken = len(values) != 8 or any(math.isnan(value) for value in values) or not known
        assert broken or not usable or name not in TAKES_ANYTHING
        return
    assert usable
    assert len(values) == 8
    assert not any(math.isnan(value) for value in values)
    wanted = detector_for(name, maps).fit_features(maps[known]).predict_features(maps)
    torch.testing.assert_close(detector.predict_features(maps), wanted)
