"""Write and read the files of a token store: numpy's format, written piece by piece, with a checksum."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

HEADER_BYTES = 128
Element = TypeVar("Element", bound=np.generic)
_READ_BYTES = 1 << 22
_MOST_AT_ONCE = 1024  # IOV_MAX of Linux
# Gathers the numbers of several blocks; the tokens of one are more, and are not copied.
_WRITE_BYTES = 1 << 16


class NpyWriter:
    """A one-dimensional `.npy` file whose length is not known beforehand; `checksum` leaves out the header.

    What waits to be written is dropped with the writer: a file of Python's would try once more, on a full disk.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.count = 0
        self._file = path.open("wb", buffering=0)
        self._waiting = bytearray(HEADER_BYTES)
        self._hash = xxhash.xxh3_128()

    def write(self, data: bytes | NDArray[np.generic]) -> None:
        """Append little-endian elements."""
        raw = data if isinstance(data, bytes) else np.ascontiguousarray(data, self.dtype).view(np.uint8).data
        if len(self._waiting) + len(raw) > _WRITE_BYTES:
            self._flush()
        if len(raw) > _WRITE_BYTES:
            _write_all(self._file.fileno(), [raw])
        else:
            self._waiting += raw
        self._hash.update(raw)
        self.count += len(raw) // self.dtype.itemsize

    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append the bytes of all pieces, which need not be put together for that."""
        self._flush()
        for first in range(0, len(pieces), _MOST_AT_ONCE):
            _write_all(self._file.fileno(), pieces[first : first + _MOST_AT_ONCE])
        for piece in pieces:
            self._hash.update(piece)
            self.count += len(piece) // self.dtype.itemsize

    @property
    def checksum(self) -> str:
        return str(self._hash.hexdigest())

    def close(self) -> None:
        """Write the header and put everything on the disk."""
        self._flush()
        self._file.seek(0)
        _write_all(self._file.fileno(), [npy_header(self.dtype, self.count)])
        os.fsync(self._file.fileno())
        self._file.close()

    def _flush(self) -> None:
        _write_all(self._file.fileno(), [self._waiting])
        self._waiting = bytearray()

    def __enter__(self) -> "NpyWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._file.close()


def _write_all(handle: int, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
    written = os.writev(handle, pieces)
    if written < sum(map(len, pieces)):  # a disk that is nearly full: what is left says so, or goes
        left = memoryview(b"".join(pieces))[written:]
        while left:
            left = left[os.write(handle, left) :]


def npy_header(dtype: np.dtype[np.generic], count: int) -> bytes:
    """The first HEADER_BYTES of a one-dimensional file: format 1.0 (numpy.lib.format).

    Padded to a fixed size, so that the count can be filled in at the end.
    """
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({count},), }}"
    room = HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1).encode() + b"\n"


def read_pieces(path: Path, dtype: type[Element], elements: int = 1 << 20) -> Iterator[NDArray[Element]]:
    """The elements of a file by `NpyWriter`, some at a time: unlike mapped ones they do not stay in memory."""
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        while (piece := np.fromfile(file, dtype, elements)).size:
            yield piece


def read_span(path: Path, dtype: type[Element], first: int, count: int) -> NDArray[Element]:
    """`count` elements of a file by `NpyWriter`, from number `first` on."""
    where = HEADER_BYTES + np.dtype(dtype).itemsize * first
    elements: NDArray[Element] = np.fromfile(path, dtype, count, offset=where)
    return elements


def file_checksum(path: Path, *, skip: int = 0) -> str:
    """XXH3-128 of a file's bytes after the first `skip`."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        file.seek(skip)
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return str(digest.hexdigest())


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
