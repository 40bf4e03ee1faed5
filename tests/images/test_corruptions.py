"""Common corruptions at five severities, in the layouts of CIFAR-10-C and ImageNet-C."""

import numpy as np
import pytest

from pytorch_ood_viyog.images.disk.corruptions import corruption_sets

image = pytest.importorskip("PIL.Image")


def level(data, index=0):
    return round(float(data[index][0][0, 0, 0]) * 255)


def save_array(path, count=3):
    """Severity s, image i has the level 10 s + i."""
    levels = [10 * s + i for s in range(1, 6) for i in range(count)]
    np.save(path, np.broadcast_to(np.uint8(levels)[:, None, None, None], (5 * count, 4, 4, 3)))
    return path


def test_arrays_of_cifar10_c(tmp_path):
    for name in ("fog", "snow"):
        save_array(tmp_path / f"{name}.npy")
    np.save(tmp_path / "labels.npy", np.arange(15) % 3)
    sets = corruption_sets(tmp_path)
    assert list(sets) == [f"{name} {s}" for name in ("fog", "snow") for s in range(1, 6)]
    assert sorted(level(sets["fog 4"], i) for i in range(3)) == [40, 41, 42]
    few = corruption_sets(tmp_path / "fog.npy", limit=2)
    assert [len(own) for own in few.values()] == [2] * 5
    assert level(few["fog 5"], 1) - level(few["fog 2"], 1) == 30  # the same image


def test_folders_of_imagenet_c(tmp_path):
    for severity in range(1, 6):
        file = tmp_path / "blur" / "glass_blur" / str(severity) / "n01" / "a.png"
        file.parent.mkdir(parents=True)
        image.new("RGB", (4, 4), (severity,) * 3).save(file)
    for path in (tmp_path, tmp_path / "blur", tmp_path / "blur" / "glass_blur"):
        sets = corruption_sets(path, size=2)
        assert {name: level(own) for name, own in sets.items()} == {
            f"glass_blur {s}": s for s in range(1, 6)
        }


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds neither \.npy files of corruptions nor"):
        corruption_sets(tmp_path)
    np.save(tmp_path / "fog.npy", np.zeros((7, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"fog\.npy must hold 5 severities .* got 7"):
        corruption_sets(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        corruption_sets(tmp_path / "gone")
