"""Errors that the user can mend: one line with what, where and what was seen, and a hint."""


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
    """A FASTA file or token store that cannot be used."""


class MissingDataError(DataError, UsageError):
    """A file or store that was named and is not there, or is something else: a mistake in what was asked for."""


class RunError(SeddError):
    """A run folder that is missing, damaged or in the wrong state for what was asked."""


class ClusterError(SeddError):
    """SLURM did not do what was asked, or did not answer in time."""


class CheckpointError(SeddError):
    """A checkpoint that cannot be written, or whose content is not whole."""


class DiskFullError(SeddError):
    """Nothing can be written: the disk or the quota is full. It may have space again later."""
