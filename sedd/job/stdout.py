"""Standard output of a job, which goes to a file in the run folder: a full disk must not end what it reports on."""

import contextlib
import io
import os
import sys


class _Lossy(io.RawIOBase):
    """Writes to a descriptor; what does not fit is lost."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override] # any buffer
        with contextlib.suppress(OSError):
            os.write(self._descriptor, data)
        return len(data)


def survive_full_disk() -> None:
    """Make `print` and tracebacks of this process give up what cannot be written, instead of raising."""
    sys.stdout = _text(sys.stdout.fileno())
    sys.stderr = _text(sys.stderr.fileno())


def _text(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(_Lossy(descriptor), encoding="utf-8", errors="replace", write_through=True)  # type: ignore[arg-type] # unbuffered, which typeshed does not know
