"""Named arrays in one file, memory-mapped: valid `.npz`, laid out so that pages can be shared.

A `.npz` is a zip of `.npy` files. Stored without compression, each at a multiple of 64 bytes, its
arrays can be mapped where they lie, and all processes that map a file share its pages.
"""

import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import csr_matrix

ALIGN: Final = 64
# Local file header of a zip entry, and the two parts that follow it: name and extra field.
_HEADER: Final = struct.Struct("<4s22xHH")
_ZIP64_EXTRA: Final = 20
_PADDING_ID: Final = 0x5347
_DATE: Final = (1980, 1, 1, 0, 0, 0)


class ArrayFile:
    """Writes arrays to one file, each in parts if it does not fit into memory."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("wb")
        self._zip = zipfile.ZipFile(self._raw, "w", zipfile.ZIP_STORED)

    def add(self, name: str, array: NDArray[Any] | Any) -> None:
        """Write one array."""
        whole = np.asarray(array)
        self.add_parts(name, whole.shape, whole.dtype, [whole])

    def add_parts(
        self, name: str, shape: tuple[int, ...], dtype: DTypeLike, parts: Iterable[NDArray[Any]]
    ) -> None:
        """Write one array that comes in parts along its first axis.

        Raises
        ------
        ValueError
            If the parts do not make up the shape.
        """
        kind = np.dtype(dtype)
        header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        written = 0
        with self._entry(f"{name}.npy") as entry:
            npy.write_array_header_2_0(entry, header)
            for part in parts:
                block = np.ascontiguousarray(part, dtype=kind)
                entry.write(block.reshape(-1).view(np.uint8).data if block.size else b"")
                written += block.size
        if written != int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"{name}: {written} values do not make an array of shape {shape}.")

    @contextmanager
    def _entry(self, name: str) -> Iterator[BinaryIO]:
        """Open an entry whose content starts at a multiple of `ALIGN`."""
        info = zipfile.ZipInfo(name, _DATE)
        start = self._raw.tell() + 30 + len(name.encode()) + _ZIP64_EXTRA + 4
        info.extra = struct.pack("<HH", _PADDING_ID, -start % ALIGN) + bytes(-start % ALIGN)
        with self._zip.open(info, "w", force_zip64=True) as entry:
            yield entry  # type: ignore[misc]

    def __enter__(self) -> "ArrayFile":
        """Return the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file."""
        self._zip.close()
        self._raw.close()


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays that `map_arrays` can map and `numpy.load` can read; equal in, equal bytes."""
    with ArrayFile(path) as file:
        for name, array in arrays.items():
            file.add(name, array)


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return a file's arrays, read-only and mapped; those not laid out for it are read instead."""
    with zipfile.ZipFile(path) as packed, path.open("rb") as raw:
        whole = np.memmap(path, np.uint8, "r").view(np.ndarray)
        return {
            entry.filename.removesuffix(".npy"): _array(whole, packed, raw, entry)
            for entry in packed.infolist()
        }


def _array(
    whole: NDArray[np.uint8], packed: zipfile.ZipFile, raw: BinaryIO, entry: zipfile.ZipInfo
) -> NDArray[Any]:
    raw.seek(entry.header_offset)
    _, name, extra = _HEADER.unpack(raw.read(_HEADER.size))
    raw.seek(entry.header_offset + _HEADER.size + name + extra)
    stored = entry.compress_type == zipfile.ZIP_STORED
    version = npy.read_magic(raw) if stored else (0, 0)
    if version not in ((1, 0), (2, 0)):
        with packed.open(entry) as file:
            return npy.read_array(file, allow_pickle=False)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(raw)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    content = whole[raw.tell() : raw.tell() + size]
    if fortran or dtype.hasobject or content.ctypes.data % dtype.alignment:
        with packed.open(entry) as file:
            return npy.read_array(file, allow_pickle=False)
    return content.view(dtype).reshape(shape) if size else np.empty(shape, dtype)


def save_rows(path: Path, matrix: csr_matrix) -> None:
    """Write a sparse matrix as `scipy.sparse.save_npz` does, laid out to be mapped."""
    parts = {"indices": matrix.indices, "indptr": matrix.indptr, "data": matrix.data}
    save_arrays(path, parts | {"format": np.array(b"csr"), "shape": np.array(matrix.shape)})


def map_rows(path: Path) -> csr_matrix:
    """Return a sparse matrix whose arrays are mapped."""
    return as_rows(map_arrays(path))


def as_rows(arrays: Mapping[str, NDArray[Any]]) -> csr_matrix:
    """Put a sparse matrix together without looking at its entries."""
    matrix = csr_matrix(tuple(int(n) for n in arrays["shape"]), dtype=arrays["data"].dtype)
    # SciPy's constructor would read all indices, and copy them where their types differ.
    matrix.indices, matrix.indptr, matrix.data = (
        arrays[name] for name in ("indices", "indptr", "data")
    )
    return matrix
