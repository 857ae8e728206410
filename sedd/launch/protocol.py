"""Names that the login side uses and a run's frozen code resolves: a contract between versions.

A run keeps the code it was submitted with. `sedd requeue` of a newer version hands that code a pickle and module
names, so they must be those that the frozen code knows. The manifest's `format` says which. A name that moves gets a
new format here; the old one stays for as long as runs of it may be requeued.
"""

from dataclasses import dataclass

from sedd.errors import RunError
from sedd.rundir.layout import RunDir, read_manifest

FORMAT = 3
"""Format of the runs that this code makes. From 3 on, frozen code continues after `completed` if `extended` follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Modules of a run's frozen code that are started, or unpickled, from outside it."""

    pickled_job: str
    """Module of the class `Job` that submitit unpickles."""
    submit_local: str
    """`python -m`: hands runs to submitit's local executor."""
    worker: str
    """`python -m`: one training process."""
    batch_end: str
    """`python -m`: the batch script's last line."""


NAMES: dict[int, Names] = {
    1: Names(
        pickled_job="sedd.launch.job",
        submit_local="sedd.launch.detached",
        worker="sedd.launch.worker",
        batch_end="sedd.launch.aftermath",
    ),
    2: Names(
        pickled_job="sedd.launch.pickled_job",
        submit_local="sedd.launch.submit_local",
        worker="sedd.job.worker",
        batch_end="sedd.job.batch_end",
    ),
}
NAMES[3] = NAMES[2]
"""By format."""
JOB_ENTRY = "sedd.job.entry"
"""`python -m`: what the pickled job becomes. Only the frozen code itself starts it."""


def names_of(run: RunDir) -> Names:
    """The names that the run's frozen code resolves. Raises: RunError for a run of a newer version than this code."""
    number = read_manifest(run).get("format", 1)
    try:
        return NAMES[number]
    except (KeyError, TypeError) as e:
        raise RunError(
            f"run {run.id} was made by a newer version of sedd: its format is {number}, this version knows {FORMAT}",
            hint="use the sedd that submitted it",
        ) from e
