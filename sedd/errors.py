"""Errors that the user can mend: one line with what, where and what was seen, and a hint."""

import contextlib
import difflib
import errno
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path


class SeddError(Exception):
    """A mistake or a missing thing outside this code. The command line prints it without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SeddError):
    """What was asked for cannot be understood: a wrong option, an unknown run."""

    exit_code = 2


class SpecError(UsageError):
    """A spec or profile that does not hold together; `message` has one line for each problem."""


class DataError(SeddError):
    """A FASTA file, table or token store whose content cannot be used: bad input, as a wrong option."""

    exit_code = 2


class MissingDataError(DataError, UsageError):
    """A file or store that was named and is not there, or is something else: a mistake in what was asked for."""


class MisfitError(DataError):
    """What a task was given does not fit: another attempt would meet the same, so none follows."""


class RunError(SeddError):
    """A run folder that is missing, damaged or in the wrong state for what was asked."""


class ClusterError(SeddError):
    """SLURM did not do what was asked, or did not answer in time."""


class CheckpointError(SeddError):
    """A file or folder that was named as a network, and is none, is damaged, or does not fit: bad input."""

    exit_code = 2


class CheckpointUnavailableError(CheckpointError):
    """A checkpoint that cannot be written or read now, or is not there yet; what was asked for is right."""

    exit_code = 1


class DiskFullError(SeddError):
    """Nothing can be written: the disk or the quota is full. It may have space again later."""


def did_you_mean(wrong: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """A hint that names the most similar of the known words, in whatever case; None where none is similar."""
    words = {word.casefold(): word for word in known}
    near = difflib.get_close_matches(wrong.casefold(), words, n=1, cutoff=cutoff)
    return f"did you mean '{words[near[0]]}'?" if near else None


_UNFIT = {
    errno.ENOENT: ("its folder does not exist", None),
    errno.ENOTDIR: ("its folder is a file", None),
    errno.EISDIR: ("it is a folder", "name a file in it"),
    errno.EEXIST: ("it already exists", "--force replaces it"),
    errno.EACCES: ("permission denied", None),
    errno.EPERM: ("permission denied", None),
    errno.EROFS: ("read-only file system", None),
    errno.ENAMETOOLONG: ("its name is too long", None),
}
"""What is wrong with the place that a user named for an output, and a hint."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""A full disk, a quota that is used up: what others remove makes room again."""
FORBIDDEN = (errno.EACCES, errno.EPERM)
REFUSED = (*FORBIDDEN, errno.EROFS)
"""What no waiting mends: somebody has to give the permission, or mount the file system for writing."""
_HINTS = {
    errno.ENOSPC: "the disk is full: df -h shows it, and df -i whether it is out of inodes",
    errno.EDQUOT: "the quota is used up: quota -s shows it",
    errno.EACCES: "who owns the folder may give the permission: ls -ld shows it",
    errno.EPERM: "who owns the folder may give the permission: ls -ld shows it",
    errno.EROFS: "it is mounted for reading alone on this machine",
    errno.EIO: "the disk, or its server, fails: tell those who run it",
    errno.ESTALE: "its file server has replaced the folder: mount it anew",
}
"""What to look at, by what the system says of a write."""


def cannot_write(output: Path | str, error: OSError, *, hint: str | None = None) -> SeddError:
    """The one error for an output of a command: a UsageError for a place that does not fit, else a DiskFullError or
    RunError. `hint` is for a full disk.
    """
    if error.errno in _UNFIT:
        reason, what_to_do = _UNFIT[error.errno]
        return UsageError(f"cannot write {output}: {reason}", hint=what_to_do)
    message = f"cannot write {output}: {reason_of(error)}"
    if error.errno in FULL:
        return DiskFullError(message, hint=hint)
    return RunError(message, hint=hint_of(error))


def reason_of(error: OSError) -> str:
    """What the system says is wrong, as `permission denied` or `disk quota exceeded`, without the file's name."""
    # Not `strerror`: pyarrow has its own, and so have we.
    return os.strerror(error.errno).lower() if error.errno else error.strerror or str(error)


def hint_of(error: OSError) -> str | None:
    """What to look at where a file could not be written."""
    return _HINTS.get(error.errno or 0)


def exit_code_of(error: Exception) -> int:
    """The exit code of a command that ends with an error: 2 for bad input, such as a file that may not be read."""
    if isinstance(error, SeddError):
        return error.exit_code
    return 2 if isinstance(error, OSError) and error.filename and error.errno in _UNFIT else 1


def cannot_read(path: Path, error: OSError) -> CheckpointError:
    """The one error for a file or folder of a network that is there, perhaps whole, and cannot be read now."""
    named = error.filename if isinstance(error.filename, str) else path
    kind = CheckpointError if error.errno in FORBIDDEN else CheckpointUnavailableError
    return kind(f"cannot read {named}: {reason_of(error)}")


@contextlib.contextmanager
def writing(output: Path, *, hint: str | None = None) -> Iterator[None]:
    """Raise `cannot_write` for errors of writing an output; those about other files, such as inputs, stay."""
    try:
        yield
    except OSError as e:
        named = Path(e.filename) if isinstance(e.filename, str) else output
        is_above = named != output and output.is_relative_to(named)
        if not (is_above or output.name in str(named) or e.errno in FULL):
            raise
        if is_above and isinstance(e, FileExistsError):  # a file where a folder above the output should be
            e = NotADirectoryError(errno.ENOTDIR, "")
        raise cannot_write(output, e, hint=hint) from e


def why_unreadable(path: Path, error: OSError) -> tuple[str, str | None]:
    """What is wrong with an input that cannot be opened, to follow its name, and a hint."""
    match error.errno:
        case errno.EISDIR:
            inside = sorted(each.name for each in path.glob("*.yaml"))
            return "is a folder, not a file", f"name a file in it{f': {path / inside[0]}' if inside else ''}"
        case errno.ENOTDIR:
            above = next((each for each in reversed(path.absolute().parents) if each.is_file()), path)
            return f"cannot be read: {above} is a file, not a folder", None
        case errno.EACCES | errno.EPERM:
            return "cannot be read: permission denied", permission_hint(path)
    return f"cannot be read: {reason_of(error)}", hint_of(error)


def permission_hint(path: Path) -> str:
    """What to look at where `path` may not be read: itself, or a folder above it that lets nobody in."""
    above = reversed(path.absolute().parents)
    closed = next((each for each in above if not os.access(each, os.X_OK)), path)
    return f"its owner may give the permission: ls -ld {shlex.quote(str(closed))} shows it"


HEAD_BYTES = 4096
"""Of a file that was to be text: enough to tell what it is instead."""
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip -c"),
    b"BZh": ("bzip2", "bunzip2 -c"),
    b"\xfd7zXZ\x00": ("xz", "unxz -c"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd -c"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
_FORMATS = {
    b"PAR1": "a Parquet file",
    b"%PDF-": "a PDF file",
    b"\x89PNG": "a picture (PNG)",
    b"\x93NUMPY": "an array of NumPy",
    b"SQLite format 3": "a SQLite database",
}
_IN_ZIP = {
    b"/data.pkl": "a file of PyTorch, perhaps a checkpoint",
    b"[Content_Types].xml": "an office document",
    b"xl/": "an office document",
}
"""Kinds of zip archives, by a name in their beginning."""
_UTF_16 = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def why_binary(path: Path, head: bytes) -> tuple[str, str | None] | None:
    """What a file that was to be text is instead, by its first bytes, to follow "is", and a hint; None: perhaps text.

    Commands in the hint leave the file as it is and write another one beside it.
    """
    for magic, what in _FORMATS.items():
        if head.startswith(magic):
            return what, None
    for magic, (how, command) in _COMPRESSED.items():
        if head.startswith(magic):
            inside = next((what for name, what in _IN_ZIP.items() if how == "zip" and name in head), None)
            return (inside, None) if inside else (f"compressed with {how}", _first(command, path))
    if name := _UTF_16.get(head[:2]) or _utf_16_without_mark(head):
        return f"text in {name}, not UTF-8", _first(f"iconv -f {name} -t UTF-8", path)
    strange = len(re.findall(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]", head))
    return ("binary", None) if b"\0" in head or strange > 0.02 * len(head) else None


def why_not_utf_8(path: Path, content: bytes) -> tuple[str, str | None] | None:
    """As `why_binary`, of a file's whole content; also text with letters of an older encoding."""
    if found := why_binary(path, content[:HEAD_BYTES]):
        return found
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        return f"not text in UTF-8: byte 0x{content[e.start]:02x} in line {line}", latin_1_hint(path)
    return None


def latin_1_hint(path: Path) -> str:
    """What to do with a text that is not UTF-8."""
    return f"if it is Latin-1, {_first('iconv -f LATIN1 -t UTF-8', path)}"


def _utf_16_without_mark(head: bytes) -> str | None:
    """Its name where every other byte, nearly, is 0, as in a language of Latin letters."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if not head or max(even, odd) < 0.4 * len(head) or min(even, odd) > 0.05 * len(head):
        return None
    return "UTF-16LE" if odd > even else "UTF-16BE"


def _first(command: str, path: Path) -> str:
    """`first: gunzip -c a.yaml.gz > a.yaml`, with a name for the text that is not the file's own."""
    packed = (".gz", ".bz2", ".xz", ".zst", ".zip")
    text = path.with_suffix("") if path.suffix in packed else path.with_name(f"{path.stem}_text{path.suffix}")
    return f"first: {command} {shlex.quote(str(path))} > {shlex.quote(str(text))}"
