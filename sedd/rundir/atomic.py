"""Write files that appear whole or not at all."""

import contextlib
import errno
import functools
import gzip
import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sedd.alive import is_alive
from sedd.errors import UsageError, cannot_write, writing

GZIP = ".gz"
_UNWRITTEN = (".bz2", ".xz", ".zst", ".zip")
"""Endings of compressed files that nothing here writes."""
_OTHER_FORMATS = (
    ".csv",
    ".tsv",
    ".parquet",
    ".json",
    ".html",
    ".svg",
    ".yaml",
    ".npz",
    ".pt",
    ".safetensors",
)
"""Endings that say what is written here, too, but not as sequences."""
_LEFT_S = 24 * 3600.0
"""After which a temporary file that nobody writes any more is taken for one that was left."""


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`, else remove it.

    The name ends in `.tmp` and holds host and process id, so two writers never share one.
    """
    temporary = _temporary(path)
    with _named_in_errors(path):
        try:
            yield temporary
            _fsync(temporary)
            os.replace(temporary, path)
            _fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a small file's content at once, durably."""
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, content: bytes) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def is_stdout(path: Path | None) -> bool:
    """Whether a user named standard output, as `-`."""
    return path is not None and str(path) == "-"


def refuse_stdout(path: Path | None, *, what: str = "this output") -> None:
    """Refuse `-` where a file or folder is made. Raises: UsageError."""
    if is_stdout(path):
        raise UsageError(f"cannot write {what} to standard output", hint="give it a name instead of -")


def require_output(
    path: Path | None,
    *,
    force: bool,
    endings: Sequence[str] = (),
    written: str | None = None,
    to_stdout: bool = False,
) -> None:
    """Refuse a file that a user named and that could not be written, before the work that would be lost.

    `endings` are those that its name may have, such as `.csv`; "" is a name without one, as /dev/stdout; none: any but
    those of compressed files other than .gz, and, of what is `written` (FASTA), those of other formats that are written
    here. `to_stdout`: it is text, which `-` writes to standard output.

    Raises:
        UsageError: one that is there, too, unless `force`.
    """
    if path is None or (to_stdout and is_stdout(path)):
        return
    refuse_stdout(path, what=f"a {endings[0]} file" if endings else "this output")
    if endings and path.suffix not in endings:
        *others, last = [ending for ending in endings if ending]
        known = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"cannot write {path}: its name must end in {known}")
    name = path.with_suffix("") if path.suffix == GZIP else path
    if written and name.suffix.lower() in _OTHER_FORMATS:
        raise UsageError(
            f"cannot write {path}: its name says {name.suffix[1:].lower()}, and what is written is {written}"
        )
    if path.suffix in _UNWRITTEN:
        raise UsageError(f"cannot write {path}: of compressed files only {GZIP} is written")
    with writing(path):
        folder = path.absolute().parent
        if path.is_dir():
            problem = errno.EISDIR
        elif not folder.is_dir():
            problem = errno.ENOTDIR if folder.exists() else errno.ENOENT
        elif not os.access(path if path.exists() else folder, os.W_OK):
            problem = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        elif path.is_file() and not force:  # /dev/stdout may be written to
            problem = errno.EEXIST
        else:
            return
    raise cannot_write(path, OSError(problem, os.strerror(problem)))


def require_folder(path: Path) -> None:
    """Refuse a folder that a user named and that could not be made, or written to, before the work that would be lost.

    What lies in it already is for the caller to judge. Folders above it that do not exist will be made.

    Raises:
        UsageError: `-`, too, which is standard output.
    """
    refuse_stdout(path, what="a folder")
    with writing(path):
        there = path.absolute()
        while not (there.exists() or there.is_symlink()):
            there = there.parent
        if not there.is_dir():
            if there == path.absolute():  # which --force does not replace
                return
            problem = errno.ENOTDIR
        elif not os.access(there, os.W_OK | os.X_OK):
            problem = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        else:
            return
    raise cannot_write(path, OSError(problem, os.strerror(problem)))


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """`atomic_file` for a path that a user gave. Raises: SeddError, as `cannot_write` words it."""
    with writing(path), atomic_file(path) as temporary:
        yield temporary


def write_output(path: Path, text: str) -> None:
    """Write a text to a path that a user gave, with gzip if its name ends in .gz; the same text gives the same bytes.

    A pipe or a device, such as /dev/stdout, is not replaced but written to.

    Raises:
        SeddError: as `cannot_write` words it.
    """
    content = text.encode()
    if path.suffix == GZIP:
        content = gzip.compress(content, mtime=0)
    with writing(path):
        if path.exists() and not path.is_file():
            with _named_in_errors(path):
                path.write_bytes(content)
        else:
            _write_bytes(path, content)


def write_first(path: Path, text: str) -> None:
    """Write a file of a folder that nobody reads yet: its content is durable, its name once the folder is."""
    with _named_in_errors(path):
        path.write_text(text, encoding="utf-8")
        _fsync(path)


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """As `atomic_file`, without fsync: a power cut may undo it, or leave other bytes."""
    temporary = _temporary(path)
    with _named_in_errors(path):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Replace a small file's content at once; without fsync, so a power cut may undo it."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary(path: Path) -> Path:
    """Where this process writes before it renames; what killed writers of the same file have left is removed."""
    _remove_left(path)
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")


def _host() -> str:
    """This machine in eight letters: its name may leave no room for the file's own."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


@functools.lru_cache(maxsize=256)  # once a process: heartbeats are written every few seconds
def _remove_left(path: Path) -> None:
    """Remove temporary files of processes of this machine that are dead, and that nobody has touched for a day.

    Those of other machines stay: whether their processes live cannot be seen from here.
    """
    left = re.compile(rf"\.{re.escape(path.name)}\.{_host()}\.([0-9]{{1,7}})\.tmp")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            found = left.fullmatch(entry.name)
            if found and time.time() - entry.stat().st_mtime > _LEFT_S and not is_alive(int(found[1])):
                os.unlink(entry)


@contextlib.contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    """Give the system's errors the name that the user knows: write(2) names no file, open(2) the temporary one."""
    try:
        yield
    except OSError as e:
        e.filename, e.filename2 = str(path), None
        raise


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
