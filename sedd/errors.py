"""Errors that the user can mend: one line with what, where and what was seen, and a hint."""

import contextlib
import difflib
import errno
import os
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
