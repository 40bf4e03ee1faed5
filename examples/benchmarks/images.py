"""In-distribution and out-of-distribution images for the benchmarks, read from a data folder.

The folder holds compressed NumPy files: ``images`` uint8 (N, H, W, 3) or (N, H, W), ``labels``,
``split`` (0 = train, 1 = test) and ``class_names``. Images keep the size they are stored at.
Resampling would remove exactly the high frequencies in which first-layer statistics look for a
perturbation, so an upsampled OOD set is easy for the wrong reason.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional

ID_SETS = ("gtsrb", "photo15", "cifar10", "photo15_64")
CLASSES = {"gtsrb": 43, "photo15": 15, "cifar10": 10, "photo15_64": 15}
NATURAL_OOD = {
    "gtsrb": ("aerial", "mri", "handsign", "objects", "digits", "photos", "vehicles", "scenes"),
    "photo15": ("aerial", "mri", "handsign", "objects", "digits", "signs", "vehicles", "scenes"),
    "cifar10": ("aerial", "mri", "handsign", "objects", "digits", "signs", "photos", "scenes"),
}
NATURAL_OOD["photo15_64"] = NATURAL_OOD["photo15"]
OOD_FILES = {
    "aerial": "ood_ucmerced32",
    "mri": "ood_brainmri32",
    "handsign": "ood_handsign32",
    "objects": "ood_caltech_rest32",
    "digits": "mnist28",
    "signs": "gtsrb32_small",
    "photos": "photo15_32",
    "vehicles": "cifar10_test4_lossless",
}
# Classes of an OOD file that show what the ID set shows are not out-of-distribution.
_CATS_DOGS = ("dalmatian", "wild_cat", "cougar_body", "cougar_face")
_BIRDS = ("emu", "flamingo", "flamingo_head", "ibis", "pigeon", "rooster")
_SHIPS = ("ferry", "schooner")
SHARED_CLASSES = {
    ("gtsrb", "objects"): ("stop_sign",),
    ("photo15", "objects"): ("sunflower", "schooner"),
    ("photo15", "vehicles"): ("airplane", "automobile", "ship"),
    ("cifar10", "objects"): (*_CATS_DOGS, *_BIRDS, *_SHIPS),
    ("cifar10", "photos"): ("airplanes", "car_side", "ketch", "Leopards"),
}


@dataclass(frozen=True)
class Images:
    """
    :param pixels: uint8 (N, 3, H, W)
    :param y: labels (N,)
    """

    pixels: Tensor
    y: Tensor

    @property
    def x(self) -> Tensor:
        """The images as float32 in [0, 1]."""
        return self.pixels.float() / 255

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: slice | Tensor) -> "Images":
        return Images(self.pixels[index], self.y[index])


def load(data: Path, file: str) -> tuple[Images, np.ndarray]:
    """
    :param data: data folder
    :param file: name of a file in it, without ``.npz``
    :return: all images of the file and their split (0 = train, 1 = test)
    :raises FileNotFoundError: if the file is not in the folder
    """
    path = data / f"{file}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; data must be the folder of the .npz files")
    with np.load(path) as content:
        pixels = torch.from_numpy(content["images"])
        y = torch.from_numpy(content["labels"])
        split = content["split"] if "split" in content else np.ones(len(y), dtype=np.int8)
    if pixels.ndim == 3:  # grey
        pixels = pixels[..., None].expand(-1, -1, -1, 3)
    return Images(pixels.permute(0, 3, 1, 2).contiguous(), y), split


def class_names(data: Path, file: str) -> list[str]:
    """:return: the class names of a file, in the order of its labels; empty if it has none"""
    with np.load(data / f"{file}.npz") as content:
        return [str(name) for name in content["class_names"]] if "class_names" in content else []


def load_cifar10_jpeg(data: Path) -> Images:
    """:return: the 50,000 training images; their JPEG error forbids measuring on them"""
    with np.load(data / "cifar10_jpegbytes.npz") as content:
        blob, offsets = content["blob"], content["offsets"]
        labels, train = content["labels"], np.flatnonzero(content["split"] == 0)
    decoded = [
        np.asarray(Image.open(io.BytesIO(blob[offsets[i] : offsets[i + 1]].tobytes())))
        for i in train
    ]
    pixels = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.from_numpy(labels[train]))


def shuffled(images: Images, seed: int = 0) -> Images:
    """:return: the images in a random order, so that any first n are a fair sample"""
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]


def _split(data: Path, file: str, part: int) -> Images:
    images, split = load(data, file)
    return shuffled(images[torch.from_numpy(np.flatnonzero(split == part))])


def _file(name: str) -> str:
    if name not in ID_SETS:
        raise ValueError(f"name must be one of {ID_SETS}, got {name!r}")
    return {"gtsrb": "gtsrb32_small", "photo15": "photo15_32"}.get(name, name)


def train_images(name: str, data: Path) -> Images:
    """
    :param name: one of ``ID_SETS``
    :return: images to train a classifier on
    """
    return load_cifar10_jpeg(data) if name == "cifar10" else _split(data, _file(name), 0)


def fit_images(name: str, data: Path) -> Images:
    """
    Images to fit detectors on: the training images, or for CIFAR-10 one half of the lossless
    test images. GTSRB's train and test split show different physical signs, so the near
    duplicates of a track stay on one side.

    :param name: one of ``ID_SETS``
    """
    if name == "cifar10":
        return _split(data, "cifar10_test4_lossless", 1)[:2000]
    return train_images(name, data)


def test_images(name: str, data: Path) -> Images:
    """
    Images to measure on and to attack, disjoint from :func:`fit_images`.

    :param name: one of ``ID_SETS``
    """
    if name == "cifar10":
        return _split(data, "cifar10_test4_lossless", 1)[2000:]
    return _split(data, _file(name), 1)


def ood_sets(name: str, data: Path, limit: int = 600) -> dict[str, Tensor]:
    """
    The natural out-of-distribution sets of an ID set, at its native size.

    :param name: one of ``ID_SETS``
    :param limit: at most this many images a set
    :return: name of the set -> images (N, 3, H, W) in [0, 1]
    """
    tiles = 2 if name == "photo15_64" else 1
    sets = {}
    for ood in NATURAL_OOD[name]:
        if ood == "scenes":
            sets[ood] = scenes(32 * tiles, limit)
            continue
        images = shuffled(_ood_images(name, data, ood))
        pixels = images.pixels[: limit * tiles**2]
        # 64 px from 2 × 2 different 32 px images: interpolation would smooth them. The seams
        # are natural edges to a first layer, as strong as the borders of objects.
        sets[ood] = (tile(pixels) if tiles == 2 else pixels).float() / 255
    return sets


def _ood_images(name: str, data: Path, ood: str) -> Images:
    file = OOD_FILES[ood]
    images, _ = load(data, file)
    shared = SHARED_CLASSES.get((name.removesuffix("_64"), ood), ())
    excluded = [i for i, label in enumerate(class_names(data, file)) if label in shared]
    images = images[~torch.isin(images.y, torch.tensor(excluded, dtype=torch.int64))]
    margin = (32 - images.pixels.shape[-1]) // 2  # digits are 28 px on black
    return Images(functional.pad(images.pixels, (margin,) * 4), images.y)


def tile(pixels: Tensor) -> Tensor:
    """
    :param pixels: (4 N, C, H, W)
    :return: (N, C, 2 H, 2 W), each made of four different images side by side
    """
    n, (_, channels, height, width) = len(pixels) // 4, pixels.shape
    grid = pixels[: 4 * n].reshape(n, 2, 2, channels, height, width)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(n, channels, 2 * height, 2 * width)


def scenes(size: int, limit: int, stride: int = 12) -> Tensor:
    """
    Crops of scikit-learn's two sample photographs, reduced 3× by block means, which takes the
    JPEG error out of them. Crops overlap, so they are fewer independent images than they count.

    :param size: height and width of a crop
    :param limit: at most this many crops, chosen at random
    :return: (N, 3, size, size) in [0, 1], rounded to 8 bit
    """
    photos = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)
    small = functional.avg_pool2d(photos.float(), 3).round() / 255
    crops = small.unfold(2, size, stride).unfold(3, size, stride)
    crops = crops.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, size, size)
    order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(0))
    return crops[order[:limit]].contiguous()


def noise_sets(size: int, n: int = 400, seed: int = 0) -> dict[str, Tensor]:
    """
    :param size: height and width
    :return: ``uniform_noise`` over [0, 1] and ``gaussian_noise`` of mean 0.5 and standard
        deviation 0.25, clipped; each (n, 3, size, size), rounded to 8 bit
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(n, 3, size, size, generator=generator)
    gaussian = 0.5 + 0.25 * torch.randn(n, 3, size, size, generator=generator)
    return {
        "uniform_noise": (uniform * 255).round() / 255,
        "gaussian_noise": (gaussian.clamp(0, 1) * 255).round() / 255,
    }
