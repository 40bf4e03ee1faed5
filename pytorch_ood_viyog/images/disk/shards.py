"""
Encoded images in shards: the Parquet files of Hugging Face data sets, the tar files of WebDataset.
An image is read when it is asked for; what is held in memory is where it lies, and labels.
"""

import json
import operator
import tarfile
from abc import abstractmethod
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from .decoding import UnreadableImageError, read_image
from .folders import SUFFIXES

__all__ = ["SHARDS", "Shard", "is_sharded", "load_shards"]

# of Hugging Face: what is classified, and of CIFAR-100
_LABELS = ("label", "labels", "fine_label")


class Shard(Dataset[tuple[Tensor, int]]):
    """Images of one file, and labels, which are 0 where there are none."""

    labels: Sequence[int]

    def __init__(self, path: Path, size: int | None):
        """:raises ValueError: if the file is damaged, or holds no images"""
        self.path = path
        self.size = size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        name = f"{self.path}, {self.name(index)}"
        try:
            encoded = self.encoded(index)
        except Exception as error:  # of pyarrow and tarfile
            raise UnreadableImageError(f"{name}: {type(error).__name__}: {error}") from error
        image = read_image(BytesIO(encoded), self.size, name)
        return image, self.labels[index] if self.has_labels else 0

    @property
    def has_labels(self) -> bool:
        """Whether the file tells a class for each image."""
        return len(self.labels) > 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """:return: name of an entry, for messages"""

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """:return: the bytes of an image"""

    def _numbers(self, labels: Sequence[Any]) -> list[int]:
        found = []
        for index, label in enumerate(labels):
            try:
                found.append(int(label) if isinstance(label, str) else operator.index(label))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.path}, {self.name(index)}: the label must be the number of a class, "
                    f"got {label!r}."
                ) from error
        return found


class _Parquet(Shard):
    """A file of Hugging Face; the row group of the last image that was asked for is kept."""

    def __init__(self, path: Path, size: int | None):
        super().__init__(path, size)
        try:
            file = self._open()
            names, metadata = file.schema_arrow.names, file.metadata
            label = next((name for name in _LABELS if name in names), None)
            labels = file.read([label])[label].to_pylist() if label else []
        except ImportError:
            raise
        except Exception as error:  # pyarrow's are of many kinds
            raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
        if "image" not in names or not metadata.num_rows:
            raise ValueError(
                f"{path} must have rows with a column 'image', got {metadata.num_rows} rows of "
                f"{names}."
            )
        self.labels = self._numbers(labels)
        counts = [metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._ends = np.cumsum(counts)
        self._kept: tuple[int, Any] = (-1, None)

    def _open(self) -> Any:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError(
                "Parquet files need pyarrow: pip install 'pytorch-ood-viyog[parquet]'"
            ) from error
        return pyarrow.parquet.ParquetFile(self.path)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, index: int) -> str:
        return f"row {index}"

    def encoded(self, index: int) -> bytes:
        group = int(np.searchsorted(self._ends, index, side="right"))
        if self._kept[0] != group:
            self._kept = group, self._open().read_row_group(group, ["image"])["image"]
        value = self._kept[1][index - int(self._ends[group])].as_py()  # from the end of the group
        found: bytes | None = value.get("bytes") if isinstance(value, dict) else value
        if not found:
            raise ValueError("no bytes: the data set was saved with paths alone")
        return found


class _Tar(Shard):
    """A shard of WebDataset that is not compressed."""

    def __init__(self, path: Path, size: int | None):
        super().__init__(path, size)
        try:
            with tarfile.open(path, "r:") as file:
                members = [member for member in file if member.isfile()]
            _check_end(path, members)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
        self._images = [m for m in members if _suffix(m.name) in SUFFIXES and not _hidden(m.name)]
        if not self._images:
            raise ValueError(f"{path} holds no images, but {len(members)} other files.")
        told = {m.name: m for m in members if _suffix(m.name) in (".cls", ".json")}
        labels = [self._label(member.name, told) for member in self._images]
        has = [label is not None for label in labels]
        if any(has) and not all(has):
            raise ValueError(f"{path}, {self.name(has.index(False))} has no label, others have.")
        self.labels = self._numbers(labels if all(has) else [])

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        return self._images[index].name

    def encoded(self, index: int) -> bytes:
        return self._bytes(self._images[index])

    def _bytes(self, member: tarfile.TarInfo) -> bytes:
        with self.path.open("rb") as file:
            file.seek(member.offset_data)
            return file.read(member.size)

    def _label(self, name: str, told: dict[str, tarfile.TarInfo]) -> Any:
        # WebDataset's key ends at the first dot of the name, though names may have more
        folder, slash, base = name.rpartition("/")
        for stem in (name.removesuffix(Path(name).suffix), folder + slash + base.split(".")[0]):
            if member := told.get(f"{stem}.cls"):
                return self._bytes(member).decode(errors="replace").strip()
            if member := told.get(f"{stem}.json"):
                try:
                    return json.loads(self._bytes(member)).get("label")
                except (ValueError, AttributeError) as error:
                    raise ValueError(f"{self.path}, {member.name}: {error}") from error
        return None


#: suffix -> what reads the file
SHARDS: dict[str, type[Shard]] = {".parquet": _Parquet, ".tar": _Tar}


def is_sharded(path: Path) -> bool:
    """:return: whether it is a shard, or a folder of them without images or folders beside"""
    if not path.is_dir():
        return path.suffix in SHARDS
    inner = [file for file in path.iterdir() if not _hidden(file.name)]
    images = any(file.is_dir() or _suffix(file.name) in SUFFIXES for file in inner)
    return not images and any(file.suffix in SHARDS for file in inner)


def load_shards(path: Path, size: int | None = None, part: str = "") -> Dataset[Any]:
    """
    In a ``.parquet`` file the column ``image`` holds encoded bytes, or ``bytes`` within it, and
    ``label``, ``labels`` or ``fine_label`` the class. In a ``.tar`` file (WebDataset) each image
    is a sample, and its class is the number in the ``.cls`` file of the same name, or ``label``
    in the ``.json``.

    :param path: a file, or a folder of shards of one kind
    :param size: the shorter side is resized to it and the middle square cut out
    :param part: ``"train"`` or ``"test"`` for those of a folder whose names start like this
    :return: images in [0, 1], rounded to 8 bit, and labels
    :raises ValueError: if a file is damaged or holds no images, some have labels and others not,
        or there is no such part
    :raises ImportError: if pyarrow is not installed
    """
    files = [path] if path.is_file() else _of_part(path, part)
    shards = [SHARDS[file.suffix](file, size) for file in files]
    without = [shard.path.name for shard in shards if not shard.has_labels]
    if 0 < len(without) < len(shards):
        raise ValueError(f"{path}: {without[:3]} have no labels, other shards have.")
    return ConcatDataset(shards)


def _of_part(folder: Path, part: str) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if file.suffix in SHARDS]
    parts = sorted({file.stem.split("-")[0] for file in files})
    if part and part not in parts:
        raise ValueError(f"{folder} has shards of {parts}, none of {part!r}.")
    if not part and len(parts) > 1:
        raise ValueError(f"{folder} has shards of {parts}. Give one, or a folder of those of one.")
    return [file for file in files if not part or file.stem.split("-")[0] == part]


def _check_end(path: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """Whether the file goes on after the last entry that was found: tarfile says nothing then."""
    last = members[-1] if members else None
    end = last.offset_data + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE if last else 0
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell() < end:
            raise tarfile.ReadError(f"ends within {last.name if last else 'its first entry'}")
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"damaged after {last.name if last else 'its start'}")


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _hidden(name: str) -> bool:
    return any(part.startswith(".") and part != "." for part in name.split("/"))
