"""Which waiting jobs may claim cards that are free now: pure.

SLURM's backfill plans a start, and keeps cards for it, only for jobs that could start as soon as their cards are free.
It passes over those that are held, that depend on other jobs, or that a limit stops (`_attempt_backfill` in
src/plugins/sched/backfill/backfill.c; the reasons: https://slurm.schedmd.com/job_reason_codes.html).
A reason that is not named here, such as ReqNodeNotAvail or PartitionDown, counts as a claim.
"""

import datetime as dt
import re
from collections.abc import Iterable

from sedd.cluster.squeue import WaitingJob

_NOT_IN_THE_PLAN = frozenset(
    "BadConstraints BeginTime Dependency DependencyNeverSatisfied JobHeldAdmin JobHeldUser "
    "JobHoldMaxRequeue ReservationDeleted".split()
)
"""Whatever start time squeue prints beside them: that of BeginTime is the user's own."""
_STOPPED_BY_A_LIMIT = re.compile(
    r"Assoc\w+|QOS\w+|Max\w+Per(Account|User)|AccountNotAllowed|AccountingPolicy|Invalid(Account|QOS)"
    r"|JobArrayTaskLimit|Licenses|Partition(Node|Time)Limit"
)
"""These do have a place in the plan at some sites (`assoc_limit_stop`, `bf_licenses`), or in another partition of the
job; then squeue prints a start time."""


def claiming(waiting: Iterable[WaitingJob]) -> list[WaitingJob]:
    """The jobs among these for which SLURM may keep free cards."""
    return [job for job in waiting if _may_claim(job)]


def first_due(waiting: Iterable[WaitingJob]) -> dt.datetime | None:
    """When the first job that may claim cards is to start; None where SLURM plans no such start."""
    return min((job.due for job in claiming(waiting) if job.due), default=None)


def _may_claim(job: WaitingJob) -> bool:
    if job.reason in _NOT_IN_THE_PLAN:
        return False
    return job.due is not None or not _STOPPED_BY_A_LIMIT.fullmatch(job.reason)
