"""A disk that can be filled: a small tmpfs, mounted for one test."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[Path]:
    """Mount a tmpfs of `size` (`8m`) at `folder`, which is made; skips the test where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root: run as root to enable")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> list[Path]:
    """Write until nothing more can be written; the files that have to go for the disk to have space again."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return [filler]


def fill_with_files(disk: Path) -> list[Path]:
    """As `fill`, with empty files until the disk takes no more."""
    made: list[Path] = []
    with contextlib.suppress(OSError):
        while True:
            path = disk / f"filler-{len(made)}"
            path.touch()
            made.append(path)
    return made
