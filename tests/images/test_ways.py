"""Ways: what they do, by the libraries that do it; what a way must not do."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image, features
from smooth_images import photo

from pytorch_ood_viyog.images import BenignChange, Way, apply_ways
from pytorch_ood_viyog.images.kind import is_rounded
from pytorch_ood_viyog.images.ways import checked_through

NAMES = [
    "JPEG 95 4:4:4",
    "JPEG 75",
    "WebP 80",
    "AVIF 60",
    "resize 0.5",
    "resize 0.5 lanczos pillow",
    "resize 1.5 bicubic torchvision",
    "letterbox 0.75",
    "palette 16",
    "grey",
    "blur 1",
    "white noise 4 > JPEG 75 4:2:2",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_way_gives_other_images_of_8_bit_and_the_same_for_a_seed(name):
    x = photo()
    before = x.clone()
    changed = Way(name)(x, seed=3)
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert torch.equal(x, before)
    assert not torch.equal(changed, x)
    assert torch.equal(changed, Way(name)(x, seed=3))
    torch.testing.assert_close(changed * 255, (changed * 255).round(), rtol=0, atol=1e-4)
    assert Way(name)(x[:0]).shape == x[:0].shape


def test_codecs_are_those_of_pillow():
    x = photo(1, size=24)
    array = (x[0] * 255).byte().permute(1, 2, 0).numpy()
    for name, form, options in (
        ("JPEG 90 4:4:4", "JPEG", {"quality": 90, "subsampling": 0}),
        ("JPEG 90", "JPEG", {"quality": 90, "subsampling": 2}),
        ("WebP 80", "WEBP", {"quality": 80}),
        ("AVIF 60 4:4:4", "AVIF", {"quality": 60, "subsampling": "4:4:4"}),
    ):
        file = io.BytesIO()
        Image.fromarray(array).save(file, form, **options)
        expected = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
        torch.testing.assert_close(Way(name)(x)[0], expected / 255)
    assert torch.equal(BenignChange("JPEG", 90)(x), Way("JPEG 90")(x))


def test_resizers_are_those_of_their_libraries():
    x = photo(1, size=24)
    array = (x[0] * 255).byte().permute(1, 2, 0).numpy()
    there = Image.fromarray(array).resize((12, 12), Image.Resampling.BOX)
    back = np.array(there.resize((24, 24), Image.Resampling.BOX))
    expected = torch.from_numpy(back).permute(2, 0, 1) / 255
    torch.testing.assert_close(Way("resize 0.5 box pillow")(x)[0], expected)
    cv2 = pytest.importorskip("cv2")
    there = cv2.resize(array, (12, 12), interpolation=cv2.INTER_CUBIC)
    back = cv2.resize(there, (24, 24), interpolation=cv2.INTER_CUBIC)
    expected = torch.from_numpy(back).permute(2, 0, 1) / 255
    torch.testing.assert_close(Way("resize 0.5 cubic opencv")(x)[0], expected)


def test_floats_stay_unrounded_and_bytes_do_not():
    x = photo(2, size=32)
    assert not is_rounded(Way("resize 0.5 bilinear torchvision-float")(x))
    assert is_rounded(Way("resize 0.5 bilinear torchvision")(x))
    assert is_rounded(Way("resize 0.5 bilinear torchvision-float > rounding")(x))


def test_letterbox_has_bars_and_the_picture_between():
    boxed = Way("letterbox 0.5 51")(photo(size=16))
    assert (boxed[:, :, :4] == 51 / 255).all()
    assert (boxed[:, :, 12:] == 51 / 255).all()
    assert boxed[:, :, 4:12].std() > 0.01


def test_palettes_and_grey_by_their_colours():
    x = photo(1, size=24)
    colours = Way("palette 16")(x)[0].flatten(1).T.unique(dim=0)
    assert 2 <= len(colours) <= 16
    grey = Way("grey")(x)
    assert torch.equal(grey[:, 0], grey[:, 2])
    luminance = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1)
    torch.testing.assert_close(grey[:, 0], luminance, rtol=0, atol=1.1 / 255)


def test_ways_compose_in_their_order():
    x = photo()
    both = Way("grey > JPEG 75")
    assert str(both) == "grey > JPEG 75"
    assert torch.equal(both(x), Way("JPEG 75")(Way("grey")(x)))
    assert pickle.loads(pickle.dumps(both)) == both


def test_of_several_ways_one_is_drawn_for_each_image():
    x = photo(40, size=16)
    ways = ["JPEG 50", "grey", "rounding"]
    sent = apply_ways(ways, x, seed=1)
    by_each = torch.stack([apply_ways(way, x) for way in ways])
    chosen = (by_each == sent).flatten(2).all(dim=2)
    assert (chosen.sum(dim=0) == 1).all()
    assert (chosen.sum(dim=1) > 5).all()
    assert torch.equal(sent, apply_ways(ways, x, seed=1))
    assert not torch.equal(sent, apply_ways(ways, x, seed=2))
    # the draw is that of the seed, whatever the images: the same image with a residue goes along
    assert torch.equal(apply_ways(ways, x.flip(3), seed=1).flip(3)[chosen[2]], x[chosen[2]])


def test_images_are_rounded_before_the_way():
    x = photo() * 0.9 + 0.001
    assert torch.equal(apply_ways(lambda images: images, x), (x * 255).round() / 255)


def shrinks(x):
    return x[..., 1:]


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (shrinks, r"'shrinks' must give as many images of the same size, .*, got"),
        (lambda x: x[1:], "must give as many images of the same size"),
        (lambda x: x * 255, r"must give images in \[0, 1\], got values from"),
        (lambda x: x - 1, r"must give images in \[0, 1\], got values from -"),
        (lambda x: x * torch.nan, r"must give images in \[0, 1\], got values from nan to nan"),
    ],
)
def test_ways_that_give_something_else_are_refused_by_name(way, message):
    x = photo(3)
    with pytest.raises(ValueError, match=message):
        apply_ways(["rounding", way], x, seed=4)


def test_ways_that_give_no_tensor_are_refused():
    with pytest.raises(TypeError, match="must give a tensor of images, got ndarray"):
        apply_ways(lambda x: x.numpy(), photo())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fog 1", "Steps of a way are JPEG, .*, got 'fog 1'"),
        ("", "Steps of a way are JPEG"),
        ("JPEG", "JPEG takes 1 to 2 arguments, got 'JPEG'"),
        ("JPEG 99", "99 in 'JPEG 99' must be from 1 to 95"),
        ("JPEG best", "'best' in 'JPEG best' must be a number"),
        ("JPEG nan", "nan in 'JPEG nan' must be from 1 to 95"),
        ("JPEG 90 4:1:1", "'4:1:1' in 'JPEG 90 4:1:1' must be one of 4:4:4, 4:2:2, 4:2:0"),
        ("resize 0.5 cubic", "pillow resizes by nearest, .*, got 'cubic'"),
        ("resize 0.5 bicubic gimp", "'gimp' in .* must be one of pillow, opencv"),
        ("blur", "blur needs one number, its strength, got 'blur'"),
        ("blur 1000", "strength of blur must be from"),
        ("grey 1", "grey takes 0 to 0 arguments"),
    ],
)
def test_wrong_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        Way(name)


def test_wrong_ways_are_refused():
    with pytest.raises(TypeError, match=r"through must be the name of a way, .*, got int"):
        checked_through(5)
    with pytest.raises(ValueError, match="at least one way"):
        checked_through([])
    with pytest.raises(TypeError, match="sequences of sequences"):
        checked_through([["grey"]])
    with pytest.raises(TypeError, match="The name of a way must be a text, got int"):
        Way(5)
    assert checked_through([Way("grey"), "JPEG 75"]) == ("grey", "JPEG 75")


def test_a_codec_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(ImportError, match="This Pillow was built without AVIF"):
        apply_ways("AVIF 60", photo())


def test_images_of_another_range_are_not_clipped_in_silence():
    x = torch.rand(2, 3, 16, 16)
    for other in (x * 255, x * 5 - 2.5, x * 2 - 1):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\], got .* before they are norm"):
            apply_ways("rounding", other)
    assert torch.equal(
        apply_ways("rounding", x + 0.5), apply_ways("rounding", (x + 0.5).clamp(0, 1))
    )
