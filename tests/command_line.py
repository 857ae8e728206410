"""The command line as a user types it."""

import contextlib
import ctypes
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

BY_PERMISSION = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Before a command: what it runs may read and write no more than permissions allow; root, too."""
_BEYOND_PERMISSION = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextlib.contextmanager
def by_permission() -> Iterator[None]:
    """Inside, this thread may read and write no more than permissions allow; root's, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    sets = (
        ctypes.c_uint32 * 6
    )()  # effective, permitted and inheritable, twice: of the first 32 and of the others
    assert libc.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    before = sets[0]
    sets[0] = before & ~_BEYOND_PERMISSION
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())


def sedd(
    *arguments: object, runs: Path | None = None, by: Sequence[str] = (), **options: object
) -> subprocess.CompletedProcess[str]:
    """Run `sedd` in a process of its own, started `by` a command if given; what it prints comes back as text."""
    command = [*by, sys.executable, "-m", "sedd", *map(str, arguments)]
    environment = os.environ | ({"SEDD_RUNS": str(runs)} if runs is not None else {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload]


def sedd_here(
    *arguments: object, runs: Path | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The same in this process: three to five seconds less where the command imports torch.

    Not for what only a process of its own has: a terminal, a locale, limits, a signal's end, what it imports.
    """
    from sedd.cli.main import main

    words = ["sedd", *map(str, arguments)]
    variables = {"SEDD_RUNS": str(runs)} if runs is not None else {}
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        mock.patch.object(sys, "argv", words),
        mock.patch.dict(os.environ, variables),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
        contextlib.chdir(cwd or Path.cwd()),
    ):
        try:
            main()
        except SystemExit as e:
            code = e.code
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(words, code, *(text_of(stream) for stream in (out, err)))


def text_of(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


def call(*arguments: object) -> None:
    """As `sedd_here`, for what ends in an error: it is raised as it is."""
    from sedd.cli.main import build_app

    texts = [str(argument) for argument in arguments]
    build_app(texts)(args=texts, standalone_mode=False)
