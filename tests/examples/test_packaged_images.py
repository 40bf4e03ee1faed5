"""The quickstart's images: shipped with installed packages, halves apart, crops of one size."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "examples" / "detectors"))
packaged = import_module("packaged_images")
IMAGES = packaged.PHOTOGRAPHS | packaged.OTHERS


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_there_and_large_enough_for_a_crop(name):
    image = packaged.read(*IMAGES[name])
    assert image.shape[0] == 3
    assert min(image.shape[1:]) >= 224
    assert 0 <= image.min() < image.max() <= 1


@pytest.mark.parametrize(("height", "width"), [(300, 451), (600, 512)])
def test_halves_share_no_pixel_and_lose_none(height, width):
    image = torch.arange(height * width).reshape(1, height, width)
    one, other = packaged.halves(image)
    assert not set(one.flatten().tolist()) & set(other.flatten().tolist())
    assert one.numel() + other.numel() == image.numel()
    assert min(*one.shape[1:], *other.shape[1:]) >= 224


def test_crops_are_spread_evenly_and_one_lies_in_the_middle():
    image = torch.arange(244.0 * 284).reshape(1, 244, 284)
    crops = packaged.crops(image, 2, 3)
    assert crops.shape == (6, 1, 224, 224)
    corners = [divmod(int(crop[0, 0, 0]), 284) for crop in crops]
    assert corners == [(5, 10), (5, 30), (5, 50), (15, 10), (15, 30), (15, 50)]
    assert torch.equal(packaged.crops(image, 1, 1)[0, 0, 0, 0], image[0, 10, 30])
