"""Which numbers, batches, labels and maps are accepted; errors are those of tests/detectors."""

import math

import numpy as np
import pytest
import torch

from pytorch_ood_viyog.layer.batches import id_mask, split_batch
from pytorch_ood_viyog.layer.checks import check_finite, check_maps, check_number
from pytorch_ood_viyog.layer.precision import full_precision

MAPS = torch.zeros(4, 3, 5, 5)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.float64(2), np.int64(2)])
def test_numbers_become_floats(value):
    number = check_number("size", value, low=2, high=2)
    assert number == 2
    assert type(number) is float


@pytest.mark.parametrize("value", ["2", None, True, [2], 2j, torch.tensor(2.0)])
def test_not_a_number(value):
    with pytest.raises(TypeError, match=r"^size must be a number, got .*" + type(value).__name__):
        check_number("size", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0, 11, 10**400])
def test_numbers_out_of_range(value):
    with pytest.raises(ValueError, match=r"^size must be finite and in \[1, 10\], got"):
        check_number("size", value, low=1, high=10)


@pytest.mark.parametrize("kind", [tuple, list])
def test_batches_are_tensors_or_start_with_one(kind):
    x, y = torch.rand(2, 3), torch.arange(2)
    assert split_batch(x)[0] is x
    assert split_batch(x)[1] is None
    for batch in ([x], [x, y], [x, y, "file names"]):
        inputs, labels = split_batch(kind(batch))
        assert inputs is x
        assert labels is (y if len(batch) > 1 else None)


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([0, -1, 3, -5]), [0, -1, 3, -5], np.array([0.0, -1.0, 3.0, -5.0])],
)
def test_negative_labels_are_not_id(labels):
    assert id_mask(labels, MAPS).tolist() == [True, False, True, False]


def test_no_mask_where_all_samples_are_id():
    assert id_mask(None, MAPS) is None
    assert id_mask([0, 1, 2, 3], MAPS) is None


@pytest.mark.parametrize("labels", ["abcd", ["a", "b", "c", "d"], {"y": 1}, torch.zeros(4) * 1j])
def test_labels_that_are_not_numbers(labels):
    with pytest.raises(TypeError, match=r"^labels must"):
        id_mask(labels, MAPS, name="labels")


def test_a_dataset_in_place_of_a_loader_is_told():
    with pytest.raises(ValueError, match=r"Batches are expected: wrap a dataset in a DataLoader"):
        id_mask(3, MAPS)


@pytest.mark.parametrize("shape", [(2, 0, 4), (2, 3, 4, 0)])
def test_maps_without_channels_or_positions(shape):
    with pytest.raises(ValueError, match="channels and positions") as caught:
        check_maps(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_full_precision(dtype, expected):
    assert full_precision(MAPS.to(dtype)).dtype == expected


def test_derived_values_count_too():
    derived = torch.tensor([0.0, math.nan, 0.0])
    with pytest.raises(ValueError, match=r"the samples 1\."):
        check_finite("Input", torch.zeros(3, 2), derived)


def test_long_lists_of_samples_are_cut():
    with pytest.raises(ValueError, match=r"18, 19 and 80 more\."):
        check_finite("Maps", torch.full((100, 1), math.nan))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16])
def test_finite_values_of_any_type_pass(dtype):
    check_finite("Input", torch.ones(3, 2).to(dtype))
    check_finite("Input", torch.ones(0, 2).to(dtype))
