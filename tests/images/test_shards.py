"""Parquet files of Hugging Face, tar files of WebDataset: small ones made in their layout."""

import io
import json
import tarfile

import pytest

from pytorch_ood_viyog.images.disk.decoding import UnreadableImageError
from pytorch_ood_viyog.images.disk.files import has_labels, load_images, readable_images

image = pytest.importorskip("PIL.Image")


def encoded(value, suffix="png"):
    held = io.BytesIO()
    image.new("RGB", (6, 4), (value,) * 3).save(held, suffix)
    return held.getvalue()


def levels(data):
    return [(round(float(x[0, 0, 0]) * 255), y) for x, y in (data[i] for i in range(len(data)))]


def write_parquet(path, **columns):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, row_group_size=2)
    return path


def save_parquet(path, values, labels=None, column="label"):
    """As ``datasets`` writes them: a column of bytes and path, row groups of a few images."""
    images = [v if v is None or isinstance(v, bytes) else encoded(v) for v in values]
    rows = [{"bytes": b, "path": f"{i}.png"} for i, b in enumerate(images)]
    return write_parquet(path, image=rows, **({} if labels is None else {column: labels}))


def save_tar(path, entries):
    with tarfile.open(path, "w") as file:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


class TestParquet:
    @pytest.mark.parametrize("column", ["label", "labels", "fine_label"])
    def test_image_bytes_and_labels(self, tmp_path, column):
        path = save_parquet(tmp_path / "a.parquet", [10, 20, 30, 40, 50], [4, 3, 2, 1, 0], column)
        data = load_images(path)
        assert has_labels(data)
        assert levels(data) == [(10, 4), (20, 3), (30, 2), (40, 1), (50, 0)]
        assert round(float(data[4][0][0, 0, 0]) * 255) == 50  # from one group to another
        assert round(float(data[1][0][0, 0, 0]) * 255) == 20
        assert len(load_images(path, limit=2)) == 2

    def test_bytes_without_a_path_and_no_labels(self, tmp_path):
        data = load_images(write_parquet(tmp_path / "a.parquet", image=[encoded(7)]))
        assert levels(data) == [(7, 0)]
        assert not has_labels(data)

    def test_a_folder_of_shards_has_parts(self, tmp_path):
        save_parquet(tmp_path / "train-00000-of-00002.parquet", [1, 2], [0, 1])
        save_parquet(tmp_path / "train-00001-of-00002.parquet", [3], [2])
        save_parquet(tmp_path / "test-00000-of-00001.parquet", [9], [1])
        (tmp_path / "README.md").write_text("")
        assert levels(load_images(tmp_path, part="train")) == [(1, 0), (2, 1), (3, 2)]
        assert levels(load_images(tmp_path, part="test")) == [(9, 1)]
        with pytest.raises(ValueError, match=r"shards of \['test', 'train'\]"):
            load_images(tmp_path)
        save_parquet(tmp_path / "train-00001-of-00002.parquet", [3])
        with pytest.raises(ValueError, match=r"train-00001-of-00002.parquet'\] have no labels"):
            load_images(tmp_path, part="train")

    def test_damage_is_named(self, tmp_path):
        path = save_parquet(tmp_path / "a.parquet", [1, b"no image", None, 4], [0, 0, 0, 0])
        data = load_images(path)
        with pytest.raises(UnreadableImageError, match=r"a\.parquet, row 1: "):
            data[1]
        with pytest.raises(UnreadableImageError, match=r"a\.parquet, row 2: .*no bytes"):
            data[2]
        with pytest.warns(UserWarning, match="2 images cannot be read"):
            assert levels(readable_images(data)) == [(1, 0), (4, 0)]
        for left in (0, 100):
            path.write_bytes(path.read_bytes()[:left])
            with pytest.raises(ValueError, match=r"a\.parquet cannot be read"):
                load_images(path)
        for label, told in (("cat", "'cat'"), (1.5, r"1\.5")):
            with pytest.raises(ValueError, match=rf"a\.parquet, row 0: .* class, got {told}"):
                load_images(save_parquet(path, [1], [label]))

    def test_other_columns_and_no_rows(self, tmp_path):
        with pytest.raises(ValueError, match=r"column 'image', got 1 rows of \['text'\]"):
            load_images(write_parquet(tmp_path / "a.parquet", text=["a"]))
        with pytest.raises(ValueError, match="got 0 rows"):
            load_images(write_parquet(tmp_path / "b.parquet", image=[]))


def test_an_archive_beside_images_is_left_out(tmp_path):
    save_tar(tmp_path / "all.tar", {"0.png": encoded(1)})
    (tmp_path / "a.png").write_bytes(encoded(2))
    with pytest.warns(UserWarning, match="1 of no image format"):
        assert levels(load_images(tmp_path)) == [(2, 0)]


class TestTar:
    def test_classes_in_files_beside(self, tmp_path):
        path = save_tar(
            tmp_path / "a.tar",
            {
                "x/0.png": encoded(10),
                "x/0.cls": b"3\n",
                "x/1.jpg": encoded(20, "jpeg"),
                "x/1.json": json.dumps({"label": 5}).encode(),
                "x/._0.png": b"resource fork",
                "x/0.txt": b"caption",
            },
        )
        data = load_images(path)
        assert levels(data) == [(10, 3), (20, 5)]
        assert has_labels(data)

    def test_names_with_dots_are_images_of_their_own(self, tmp_path):
        entries = {"a.1.png": encoded(1), "a.1.cls": b"1", "a.2.png": encoded(2), "a.2.cls": b"2"}
        entries |= {"b.left.png": encoded(3), "b.right.png": encoded(4), "b.cls": b"7"}
        data = load_images(save_tar(tmp_path / "a.tar", entries))
        assert levels(data) == [(1, 1), (2, 2), (3, 7), (4, 7)]

    def test_without_classes(self, tmp_path):
        data = load_images(save_tar(tmp_path / "a.tar", {"0.png": encoded(1)}))
        assert levels(data) == [(1, 0)]
        assert not has_labels(data)

    def test_damage_is_named(self, tmp_path):
        entries = {"0.png": encoded(1), "0.cls": b"1", "1.png": encoded(2)[:50], "1.cls": b"2"}
        path = save_tar(tmp_path / "a.tar", entries)
        with pytest.raises(UnreadableImageError, match=r"a\.tar, 1\.png: "):
            load_images(path)[1]
        whole = path.read_bytes()
        with tarfile.open(path) as file:
            last = file.getmembers()[-1]
        for broken in (
            b"",
            whole[:300],
            whole[: last.offset + 100],  # within the header of the last entry
            whole[: last.offset] + b"x" * 512 + whole[last.offset + 512 :],
        ):
            path.write_bytes(broken)
            with pytest.raises(ValueError, match=r"a\.tar (cannot be read|holds no images)"):
                load_images(path)
        for wrong in ({"1.cls": b"cat"}, {"1.json": b"{"}, {}):
            save_tar(path, {"0.png": encoded(1), "0.cls": b"1", "1.png": encoded(2)} | wrong)
            with pytest.raises(ValueError, match=r"a\.tar, 1\."):
                load_images(path)
        path.write_bytes(b"\x1f\x8b" + whole)  # compressed
        with pytest.raises(ValueError, match=r"a\.tar cannot be read"):
            load_images(path)
