"""Images from disk: what is listed, how it is decoded, arrays of any layout, damaged files."""

import warnings

import numpy as np
import pytest
import torch

from pytorch_ood_viyog.images.disk.decoding import UnreadableImageError, read_image
from pytorch_ood_viyog.images.disk.files import has_labels, load_images, readable_images

image = pytest.importorskip("PIL.Image")


def save(path, value=10, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("RGB", size, (value,) * 3).save(path)
    return path


def grey(tensor):
    return (tensor[0, 0] * 255).round().int().tolist()


class TestFolders:
    def test_hidden_and_stray_files_are_no_classes(self, tmp_path):
        save(tmp_path / "cat" / "a.png", 10)
        save(tmp_path / "dog" / "b.png", 200)
        save(tmp_path / ".ipynb_checkpoints" / "a.png")
        save(tmp_path / "stray.png")
        (tmp_path / "cat" / "._a.png").write_bytes(b"resource fork")
        (tmp_path / "cat" / "notes.txt").write_text("")
        with pytest.warns(UserWarning, match="2 images, 2 classes") as told:
            data = load_images(tmp_path)
        assert [(grey(x)[0], y) for x, y in data] == [(10, 0), (200, 1)]
        text = str(told[0].message)
        for left_out in ("2 hidden", "1 beside class folders", "1 of no image format"):
            assert left_out in text

    def test_without_labels_all_images_count(self, tmp_path):
        save(tmp_path / "inner" / "train" / "a.png", 10)
        save(tmp_path / "beside.png", 200)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = load_images(tmp_path, labelled=False)
        assert sorted((grey(x)[0], y) for x, y in data) == [(10, 0), (200, 0)]

    def test_a_flat_folder_has_one_label(self, tmp_path):
        for name in "ab":
            save(tmp_path / f"{name}.png")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = load_images(tmp_path)
        assert data.labels == [0, 0]
        assert not has_labels(data)

    def test_names_that_are_numbers_are_the_labels(self, tmp_path):
        for name in ("7", "30"):
            save(tmp_path / name / "a.png")
        assert sorted(y for _, y in load_images(tmp_path)) == [7, 30]

    def test_training_and_test_images_are_no_classes(self, tmp_path):
        save(tmp_path / "train" / "cat" / "a.png", 10)
        save(tmp_path / "test" / "cat" / "b.png", 20)
        with pytest.raises(ValueError, match=r"split into \['test', 'train'\]"):
            load_images(tmp_path)
        assert grey(load_images(tmp_path, part="train")[0][0])[0] == 10
        assert grey(load_images(tmp_path, part="test")[0][0])[0] == 20

    def test_unreadable_files_are_named_and_left_out(self, tmp_path):
        save(tmp_path / "a.png")
        (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
        (tmp_path / "empty.png").write_bytes(b"")
        data = load_images(tmp_path)
        with pytest.warns(UserWarning, match=r"2 images cannot be read.*broken.*empty"):
            assert len(readable_images(data)) == 1
        with pytest.raises(UnreadableImageError, match=r"broken\.png"):
            readable_images(data, strict=True)
        (tmp_path / "a.png").unlink()
        with pytest.raises(ValueError, match="None of 2 images"):
            readable_images(load_images(tmp_path))

    def test_sizes_that_differ_are_told_before(self, tmp_path):
        save(tmp_path / "a.png")
        save(tmp_path / "b.png", size=(5, 5))
        assert load_images(tmp_path)[0][0].shape == (3, 4, 6)
        with pytest.raises(ValueError, match="differ in size"):
            readable_images(load_images(tmp_path))
        data = readable_images(load_images(tmp_path, size=4))
        assert [x.shape for x, _ in data] == [(3, 4, 4)] * 2


class TestDecoding:
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_is_scaled(self, tmp_path, suffix):
        values = np.array([[0, 257 * 51, 65535]], np.uint16)
        image.fromarray(values).save(tmp_path / f"a.{suffix}")
        assert grey(read_image(tmp_path / f"a.{suffix}")) == [0, 51, 255]

    def test_floats_in_0_to_1_are_scaled_and_others_refused(self, tmp_path):
        image.fromarray(np.array([[0, 0.2, 1]], np.float32)).save(tmp_path / "a.tif")
        assert grey(read_image(tmp_path / "a.tif")) == [0, 51, 255]
        for worst in (7, float("nan")):
            image.fromarray(np.array([[0, worst]], np.float32)).save(tmp_path / "b.tif")
            with pytest.raises(UnreadableImageError, match=r"b\.tif.*must be from 0 to 1"):
                read_image(tmp_path / "b.tif")

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_transparent_pixels_are_white(self, tmp_path, mode):
        clear = (0,) * len(mode)
        image.new(mode, (2, 2), clear).save(tmp_path / "a.png")
        assert grey(read_image(tmp_path / "a.png")) == [255, 255]

    def test_orientation_is_applied(self, tmp_path):
        picture = image.new("RGB", (6, 4))
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(tmp_path / "a.jpg", exif=exif)
        assert read_image(tmp_path / "a.jpg").shape == (3, 6, 4)

    @pytest.mark.parametrize(("mode", "suffix"), [("P", "gif"), ("CMYK", "tif"), ("1", "png")])
    def test_other_modes_become_colours(self, tmp_path, mode, suffix):
        image.new("RGB", (2, 2), (255, 255, 255)).convert(mode).save(tmp_path / f"a.{suffix}")
        assert grey(read_image(tmp_path / f"a.{suffix}")) == [255, 255]


class TestArrays:
    pixels = np.arange(5 * 4 * 6 * 3).reshape(5, 4, 6, 3).astype(np.uint8)
    expected = torch.from_numpy(pixels[3]).permute(2, 0, 1) / 255

    def test_npy_of_cifar10_c_stays_on_disk(self, tmp_path):
        np.save(tmp_path / "fog.npy", self.pixels)
        np.save(tmp_path / "labels.npy", np.arange(5))
        data = load_images(tmp_path / "fog.npy")
        assert isinstance(data.pixels, np.memmap)
        x, y = data[3]
        assert y == 3
        torch.testing.assert_close(x, self.expected)

    @pytest.mark.parametrize(
        ("images", "labels", "first", "float_"),
        [
            ("images", "labels", False, False),
            ("x_test", "y_test", True, False),
            ("test_images", "test_labels", False, True),
            ("x", "y", True, True),
        ],
    )
    def test_npz_of_any_layout(self, tmp_path, images, labels, first, float_):
        x = self.pixels.transpose(0, 3, 1, 2) if first else self.pixels
        x = x.astype(np.float32) / 255 if float_ else x
        np.savez(tmp_path / "a.npz", **{images: x, labels: np.arange(5)[:, None]})
        x, y = load_images(tmp_path / "a.npz")[3]
        assert y == 3
        torch.testing.assert_close(x, self.expected)

    @pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
    def test_npz_stays_on_disk(self, tmp_path, save_npz):
        save_npz(
            tmp_path / "a.npz", images=self.pixels, labels=np.arange(5), split=[0, 1, 0, 1, 1]
        )
        data = load_images(tmp_path / "a.npz")
        assert isinstance(data.pixels, np.memmap)
        torch.testing.assert_close(data[3][0], self.expected)
        x, _ = load_images(tmp_path / "a.npz", size=5)[0]
        assert x.shape == (3, 5, 5)
        torch.testing.assert_close(255 * x, (255 * x).round())
        assert [y for _, y in load_images(tmp_path / "a.npz", part="test")] == [1, 3, 4]

    def test_damaged_arrays_of_a_npz_are_named(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez_compressed(path, images=self.pixels)
        held = bytearray(path.read_bytes())
        held[60:120] = bytes(60)
        path.write_bytes(bytes(held))
        with pytest.raises(ValueError, match=r"a\.npz cannot be read: .*array 'images'"):
            load_images(path)
        np.savez(path, images=np.array([{}], object))
        with pytest.raises(ValueError, match="Python objects, which are not unpickled"):
            load_images(path)
        np.save(tmp_path / "a.npy", np.array([{}], object))
        with pytest.raises(ValueError, match=r"a\.npy cannot be read"):
            load_images(tmp_path / "a.npy")

    def test_images_that_leave_0_to_1_are_left_out(self, tmp_path):
        x = self.pixels / np.float32(255)
        x[2, 0, 0, 0] = np.nan
        np.save(tmp_path / "a.npy", x)
        with pytest.warns(UserWarning, match=r"1 images cannot be read.*a\.npy, image 2"):
            assert len(readable_images(load_images(tmp_path / "a.npy"))) == 4

    def test_pth_of_autoattack(self, tmp_path):
        x = torch.from_numpy(self.pixels).permute(0, 3, 1, 2) / 255
        torch.save(x, tmp_path / "a.pth")
        torch.testing.assert_close(load_images(tmp_path / "a.pth")[3][0], self.expected)
        torch.save((x, torch.arange(5)), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
        assert load_images(tmp_path / "a.pth")[3][1] == 3

    @pytest.mark.parametrize("suffix", ["npy", "npz", "pth"])
    @pytest.mark.parametrize("left", [0, 100])
    def test_damaged_files_are_named(self, tmp_path, suffix, left):
        path = tmp_path / f"a.{suffix}"
        if suffix == "pth":
            torch.save(torch.zeros(2, 3, 9, 9), path)
        else:
            (np.save if suffix == "npy" else np.savez)(path, np.zeros((2, 9, 9, 3), np.uint8))
        path.write_bytes(path.read_bytes()[:left])
        with pytest.raises(ValueError, match=rf"a\.{suffix} cannot be read"):
            load_images(path)

    def test_range_and_labels_are_checked(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=np.full((2, 4, 4, 3), 7.0))
        with pytest.raises(ValueError, match=r"a\.npz, image 1: floats must be in \[0, 1\]"):
            load_images(tmp_path / "a.npz")[1]
        for arrays, message in (
            ({"images": self.pixels, "labels": np.arange(4)}, "5 images and needs as many"),
            ({"images": np.zeros((3, 8, 8, 4), np.uint8)}, r"shape \(N, H, W, 3\)"),
            ({"z": np.zeros(3)}, "named 'images'"),
        ):
            np.savez(tmp_path / "a.npz", **arrays)
            with pytest.raises(ValueError, match=message):
                load_images(tmp_path / "a.npz")

    def test_grey_arrays_and_a_limit_drawn_the_same(self, tmp_path):
        values = np.arange(10, dtype=np.uint8)
        np.save(tmp_path / "a.npy", np.broadcast_to(values[:, None, None], (10, 8, 8)))
        data, whole = (load_images(tmp_path / "a.npy", limit=n) for n in (4, 40))
        x, y = whole[5]
        assert (x.shape, grey(x)[0], int(y), len(whole), len(data)) == ((3, 8, 8), 5, 0, 10, 4)
        again = load_images(tmp_path / "a.npy", limit=4)
        drawn, same = ([grey(x)[0] for x, _ in each] for each in (data, again))
        assert len(set(drawn)) == 4
        assert drawn == same


def test_folders_and_files_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        load_images(tmp_path)
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(ValueError, match="must be a folder of images or"):
        load_images(tmp_path / "a.csv")


def test_image_lists_of_openood(tmp_path):
    save(tmp_path / "in ner" / "a.png", 10)
    (tmp_path / "list.txt").write_text("in ner/a.png 7\n\n")
    x, y = load_images(tmp_path / "list.txt")[0]
    assert (grey(x)[0], y) == (10, 7)
    for line, message in (("gone.png 3", "line 1: .*gone.png does not"), ("a b", "FILE LABEL")):
        (tmp_path / "list.txt").write_text(line)
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path / "list.txt")
