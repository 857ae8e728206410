"""How many jobs this site lets a user have in the queue: the limits of slurmdbd as slurmctld applies them.

SLURM looks at the partition's QOS, the job's QOS, the user's association, and its account up to the root, and of each
kind of limit takes the first that is set (`resource_limits` in SLURM's manual).
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sedd.cluster.assoc_state import (
    CHOICE_FIELDS,
    QOS_FIELDS,
    AssocState,
    Qos,
    QosChoice,
    parse_assoc_state,
    parse_count,
    parse_qos,
    parse_qos_choices,
    plain,
)
from sedd.cluster.command import DEFAULT_TIMEOUT_S, run
from sedd.cluster.scontrol import Record
from sedd.cluster.site import Partition, SiteConfig
from sedd.cluster.users import user_name
from sedd.errors import ClusterError

_NAME = re.compile(r"(?P<name>[^()\s]*)(?:\((?P<number>\d+)\))?")
_ENFORCING = frozenset({"limits", "safe", "all"})
_OVER_PARTITION = "OverPartQOS"
_CONTROLLER_FULL = "temporarily un"
_NO_ROOM = ("submitjob", "job submit limit", _CONTROLLER_FULL, "violates accounting/qos policy")
_ARRAY_TOO_LARGE = "invalid job array"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """So many jobs, and how many of them are taken.

    Attributes:
        name: SLURM's own, `MaxSubmitJobs`.
        holder: whose jobs are counted together: `user ada in account science`, `account science`, `QOS long`.
    """

    name: str
    holder: str
    allowed: int
    used: int

    @property
    def free(self) -> int:
        return max(0, self.allowed - self.used)

    def __str__(self) -> str:
        return f"{self.name} of {self.holder}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What applies to a job. Empty: nothing, or nothing that can be read.

    Attributes:
        queued: jobs, array tasks each, that may be pending or running.
        running: jobs that may run at a time; more of them wait.
    """

    queued: tuple[Limit, ...] = ()
    running: tuple[Limit, ...] = ()

    @property
    def tightest(self) -> Limit | None:
        """The limit that leaves the fewest places."""
        return min(self.queued, key=lambda limit: (limit.free, limit.allowed), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Who submits, to what; None: SLURM's default."""

    user: str
    uid: int
    account: str | None = None
    qos: str | None = None
    partition: str | None = None
    partition_qos: str | None = None


def query_limits(
    config: SiteConfig,
    partitions: Sequence[Partition],
    *,
    partition: str | None,
    account: str | None,
    qos: str | None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Limits:
    """The limits for jobs of this process's user; without an answer of slurmdbd those of associations alone.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    if not config.has_accounting or not _ENFORCING & set(config.enforced):
        return Limits()
    first = partition.partition(",")[0].strip() if partition else None
    chosen = next((p for p in partitions if (p.name == first if first else p.is_default)), None)
    submitter = Submitter(
        user=user_name(os.geteuid()),
        uid=os.geteuid(),
        account=account,
        qos=qos,
        partition=chosen.name if chosen else first,
        partition_qos=chosen.qos if chosen else None,
    )
    asked = ["scontrol", "show", "assoc_mgr", "flags=users,assoc,qos", f"users={submitter.user}"]
    state = run(asked, timeout_s=timeout_s)
    known = _ask_sacctmgr("qos", f"format={','.join(QOS_FIELDS)}", timeout_s=timeout_s)
    wanted = f"format={','.join(CHOICE_FIELDS)}"
    choices = _ask_sacctmgr("associations", f"user={submitter.user}", wanted, timeout_s=timeout_s)
    return effective_limits(submitter, parse_assoc_state(state), parse_qos(known), parse_qos_choices(choices))


def _ask_sacctmgr(*what: str, timeout_s: float) -> str:
    try:
        return run(["sacctmgr", "--noheader", "--parsable2", "show", *what], timeout_s=timeout_s)
    except ClusterError:
        return ""  # slurmdbd is down, or not for everybody: SLURM's refusal says the rest


def is_limit_refusal(message: str) -> bool:
    """Whether SLURM refuses a job for the number of those that are there already, so that fewer, or later, may pass."""
    lowered = message.lower()
    return any(sign in lowered for sign in _NO_ROOM)


def is_controller_full(message: str) -> bool:
    """Whether SLURM takes no job of anybody, because it keeps as many as it may (MaxJobCount)."""
    return _CONTROLLER_FULL in message.lower()


def is_array_refusal(message: str) -> bool:
    """Whether SLURM refuses an array for its size."""
    return _ARRAY_TOO_LARGE in message.lower()


def effective_limits(
    submitter: Submitter, state: AssocState, known: Mapping[str, Qos], choices: Sequence[QosChoice]
) -> Limits:
    """Of each kind the limit that SLURM would apply: a QOS's before the association's."""
    account = (submitter.account or state.default_account or "").lower()
    own = _own_record(submitter, account, state.records)
    chain = _accounts_upward(account, state.records)
    ranked = _ranked_qos(submitter, account, known, choices)
    per_user = _first(ranked, "max_submit_per_user")
    per_account = _first(ranked, "max_submit_per_account")
    together = _first(ranked, "grp_submit")
    names = [f"user {submitter.user}", f"user {submitter.uid}"]
    queued = [
        _qos_limit("MaxSubmitJobsPerUser", per_user, state, "each user", names),
        _qos_limit(
            "MaxSubmitJobsPerAccount", per_account, state, f"account {account}", [f"account {account}"]
        ),
        _qos_limit("GrpSubmitJobs", together, state, "all its jobs", [""]),
    ]
    holder = f"user {submitter.user} in account {account}"
    if per_user is None and per_account is None:
        queued.append(_record_limit(own, "MaxSubmitJobs", holder))
    if together is None:
        queued.append(_record_limit(own, "GrpSubmitJobs", holder))
        queued += [_record_limit(r, "GrpSubmitJobs", f"account {r['Account']}") for r in chain]
    at_once = _qos_limit("MaxJobsPerUser", _first(ranked, "max_jobs_per_user"), state, "each user", [])
    running = at_once or _record_limit(own, "MaxJobs", holder)
    return Limits(queued=tuple(filter(None, queued)), running=(running,) if running else ())


def _own_record(submitter: Submitter, account: str, records: Sequence[Record]) -> Record | None:
    """The user's association with the account: the one for the partition, else the one for all."""
    own = [r for r in records if r["Account"] == account and _is_user(r.get("UserName", ""), submitter)]
    for partition in (submitter.partition or "", ""):
        if found := next((r for r in own if r.get("Partition", "") == partition), None):
            return found
    return None


def _accounts_upward(account: str, records: Sequence[Record]) -> list[Record]:
    """The account's own record, its parent's, and so on."""
    by_name = {r["Account"]: r for r in records if not r.get("UserName")}
    chain: list[Record] = []
    while (record := by_name.pop(account, None)) is not None:
        chain.append(record)
        account = plain(record.get("ParentAccount", ""))
    return chain


def _ranked_qos(
    submitter: Submitter, account: str, known: Mapping[str, Qos], choices: Sequence[QosChoice]
) -> list[Qos]:
    """The QOS whose limits apply, the one that is asked first in front."""
    own = known.get(submitter.qos or _default_qos(submitter, account, choices))
    partition = known.get(submitter.partition_qos or "")
    ranked = [own, partition] if own and _OVER_PARTITION in own.flags else [partition, own]
    return [qos for qos in ranked if qos is not None]


def _default_qos(submitter: Submitter, account: str, choices: Sequence[QosChoice]) -> str:
    ours = [c for c in choices if c.account == account and c.partition in (submitter.partition, "")]
    choice = max(ours, key=lambda c: c.partition, default=None)
    if choice is None:
        return "normal"
    return choice.default or (choice.allowed[0] if len(choice.allowed) == 1 else "normal")


def _first(ranked: Sequence[Qos], name: str) -> tuple[Qos, int] | None:
    return next(((qos, getattr(qos, name)) for qos in ranked if getattr(qos, name) is not None), None)


def _qos_limit(
    name: str, found: tuple[Qos, int] | None, state: AssocState, what: str, holders: Sequence[str]
) -> Limit | None:
    if found is None:
        return None
    qos, allowed = found
    counted = state.counted.get(qos.name, {})
    used = next((counted[holder] for holder in holders if holder in counted), 0)
    return Limit(name=name, holder=f"QOS {qos.name}, {what}", allowed=allowed, used=used)


def _record_limit(record: Record | None, name: str, holder: str) -> Limit | None:
    count = parse_count(record.get(name, "")) if record else None
    return Limit(name=name, holder=holder, allowed=count[0], used=count[1]) if count else None


def _is_user(text: str, submitter: Submitter) -> bool:
    match = _NAME.fullmatch(text)
    return match is not None and (match["name"] == submitter.user or match["number"] == str(submitter.uid))
