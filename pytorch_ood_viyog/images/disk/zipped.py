"""
Arrays of an ``.npz`` file without reading them into memory.
"""

import shutil
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

__all__ = ["LazyArrays"]

# of the header before each entry of a zip file: lengths of its name and of what is added to it
_LENGTHS_AT, _HEADER = 26, 30


class LazyArrays:
    """
    Arrays of ``numpy.savez`` are mapped where they lie in the file; those of
    ``numpy.savez_compressed`` are unpacked into a temporary file, which goes with the array.
    """

    def __init__(self, path: Path):
        """
        :param path: the file
        :raises zipfile.BadZipFile: if it is damaged
        """
        self.path = path
        with zipfile.ZipFile(path) as file:
            entries = [info for info in file.infolist() if info.filename.endswith(".npy")]
        self._entries = {info.filename.removesuffix(".npy"): info for info in entries}
        #: names of the arrays
        self.names = sorted(self._entries)

    def read(self, name: str) -> Any:
        """
        :param name: name of an array
        :return: the array, on disk
        :raises ValueError: if it holds objects, or is damaged
        """
        info = self._entries[name]
        try:
            with self.path.open("rb") as file:
                if info.compress_type == zipfile.ZIP_STORED:
                    file.seek(info.header_offset + _LENGTHS_AT)
                    more = sum(struct.unpack("<HH", file.read(4)))
                    file.seek(info.header_offset + _HEADER + more)
                    return _mapped(file)
            with zipfile.ZipFile(self.path) as packed, tempfile.TemporaryFile() as unpacked:
                with packed.open(info) as entry:
                    shutil.copyfileobj(entry, unpacked)
                unpacked.seek(0)
                return _mapped(unpacked)
        except Exception as error:  # zlib, struct and NumPy raise all kinds
            raise ValueError(f"array {name!r}: {type(error).__name__}: {error}") from error


def _mapped(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not unpickled")
    if 0 in shape:
        return np.zeros(shape, dtype)
    order: Literal["C", "F"] = "F" if fortran else "C"
    # the mapping holds the file open
    return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape, order=order)
