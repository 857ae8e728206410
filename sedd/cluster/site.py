"""What the site allows: SLURM's configuration, partitions and nodes."""

import re
from dataclasses import dataclass

from sedd.cluster.command import DEFAULT_TIMEOUT_S, run
from sedd.cluster.jobs import parse_limit_s, text_or_none
from sedd.cluster.scontrol import Record, parse_records, query_hostnames
from sedd.errors import ClusterError

_PAIR = re.compile(r"\s*([A-Za-z][A-Za-z0-9_/.-]*)\s*=\s?(.*)")
_GPU = re.compile(r"gpu(?::(?P<type>[^:(),=\s]+))?:(?P<count>\d+)")
_UNUSABLE = frozenset("DOWN DRAIN DRAINED DRAINING FAIL FAILING NOT_RESPONDING INVAL".split())
_DEFAULT_KILL_WAIT_S, _DEFAULT_MIN_JOB_AGE_S, _DEFAULT_MAX_ARRAY = 30, 300, 1001


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConfig:
    """The lines of `scontrol show config` that decide what happens to a job.

    Attributes:
        version: SLURM's own, `22.05.8`.
        kill_wait_s: from SIGTERM to SIGKILL at a job's end.
        min_job_age_s: how long SLURM remembers a job that ended.
        job_requeue: whether jobs may be requeued unless they ask for it.
        max_array_size: one more than the largest index of an array.
        user_signal: whether a preempted job first gets the signal it asked for with `--signal`.
        has_accounting: whether slurmdbd keeps what squeue forgets.
        private: what users are not shown of each other (PrivateData): `jobs`, `usage`, …; empty: nothing.
        max_job_count: how many jobs SLURM keeps in all, every user's and each task of an array; None: not shown.
        enforced: what a job is refused for: `associations` (a wrong account), `limits`, `qos`, …; empty: nothing.
    """

    version: str
    cluster: str
    preempt_type: str
    preempt_mode: str
    kill_wait_s: int
    min_job_age_s: int
    job_requeue: bool
    max_array_size: int
    user_signal: bool
    has_accounting: bool
    enforced: tuple[str, ...]
    private: tuple[str, ...] = ()
    max_job_count: int | None = None

    def hides_jobs(self, *, owner_uid: int, from_uid: int) -> bool:
        """Whether squeue shows one user nothing of another's jobs. Operators, who see them, are not known here."""
        return "jobs" in self.private and from_uid not in (0, owner_uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition. `None` in a limit: there is none.

    Attributes:
        grace_s: from the first notice of a preemption to the SIGTERM and SIGKILL that end the job.
        preempt_mode: `REQUEUE`, `CANCEL`, `SUSPEND`, `OFF`.
        allow_accounts: None when every account may use it.
        qos: whose limits hold in this partition, whatever QOS a job has.
        max_nodes: per job.
    """

    name: str
    state: str
    nodes: str | None
    total_nodes: int
    max_time_s: int | None
    max_nodes: int | None
    default_time_s: int | None
    grace_s: int
    preempt_mode: str
    priority_tier: int
    is_default: bool
    allow_accounts: tuple[str, ...] | None
    allow_qos: tuple[str, ...] | None
    qos: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node.

    Attributes:
        gpus: count for each GPU type; the type is "" where the site names none.
        used_gpus: how many of all types jobs hold now.
        memory_mib: what jobs may ask for.
        state: SLURM's words, in order: `("IDLE", "DRAIN")`.
    """

    name: str
    state: tuple[str, ...]
    partitions: tuple[str, ...]
    cpus: int
    memory_mib: int
    gpus: dict[str, int]
    used_gpus: int
    features: tuple[str, ...]
    reason: str | None

    @property
    def is_usable(self) -> bool:
        """Whether jobs can start here, now or when it is free."""
        return _UNUSABLE.isdisjoint(self.state)


def query_config(*, timeout_s: float = DEFAULT_TIMEOUT_S) -> SiteConfig:
    """The site's configuration. Raises: SlurmUnreachableError, ClusterError as `command.run`."""
    return parse_config(run(["scontrol", "show", "config"], timeout_s=timeout_s))


def query_partitions(*, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[Partition]:
    """All partitions that this user sees. Raises: SlurmUnreachableError, ClusterError as `command.run`."""
    return parse_partitions(run(["scontrol", "show", "partition"], timeout_s=timeout_s))


def query_nodes(nodes: str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[Node]:
    """All nodes, or those of a node list. Raises: SlurmUnreachableError, ClusterError as `command.run`."""
    return parse_nodes(
        run(["scontrol", "--details", "show", "node", *([nodes] if nodes else [])], timeout_s=timeout_s)
    )


def query_reserved_nodes(*, timeout_s: float = DEFAULT_TIMEOUT_S) -> set[str]:
    """Nodes of all reservations, running or to come. Raises: SlurmUnreachableError, ClusterError as `command.run`."""
    lists = parse_reserved_nodes(run(["scontrol", "show", "reservation"], timeout_s=timeout_s))
    return set(query_hostnames(",".join(lists), timeout_s=timeout_s)) if lists else set()


def parse_config(text: str) -> SiteConfig:
    """The configuration in `scontrol show config`. Raises: ClusterError when the text is none."""
    matches = [match for line in text.splitlines() if (match := _PAIR.fullmatch(line))]
    pairs = {match[1]: match[2].strip() for match in matches}
    if "SLURM_VERSION" not in pairs:
        raise ClusterError("scontrol show config: no SLURM_VERSION in its answer")
    return SiteConfig(
        version=pairs["SLURM_VERSION"],
        cluster=pairs.get("ClusterName", ""),
        preempt_type=pairs.get("PreemptType", ""),
        preempt_mode=pairs.get("PreemptMode", "OFF"),
        kill_wait_s=_number(pairs.get("KillWait", ""), _DEFAULT_KILL_WAIT_S),
        min_job_age_s=_number(pairs.get("MinJobAge", ""), _DEFAULT_MIN_JOB_AGE_S),
        job_requeue=pairs.get("JobRequeue", "1") != "0",
        max_array_size=_number(pairs.get("MaxArraySize", ""), _DEFAULT_MAX_ARRAY),
        user_signal="preempt_send_user_signal" in _words(pairs.get("SlurmctldParameters", "")),
        has_accounting=pairs.get("AccountingStorageType", "").rpartition("/")[2] == "slurmdbd",
        enforced=_words(pairs.get("AccountingStorageEnforce", "")),
        private=_words(pairs.get("PrivateData", "")),
        max_job_count=_limit(pairs.get("MaxJobCount", "")),
    )


def parse_partitions(text: str) -> list[Partition]:
    """The partitions in `scontrol show partition`."""
    return [_partition(record) for record in parse_records(text) if "PartitionName" in record]


def parse_nodes(text: str) -> list[Node]:
    """The nodes in `scontrol show node`."""
    return [_node(record) for record in parse_records(text) if "NodeName" in record]


def parse_reserved_nodes(text: str) -> list[str]:
    """The node list, `v100-[1-2]`, of each reservation in `scontrol show reservation` that has one."""
    records = [record for record in parse_records(text) if "ReservationName" in record]
    return [nodes for record in records if (nodes := text_or_none(record.get("Nodes", "")))]


def _words(text: str) -> tuple[str, ...]:
    words = (word.strip().lower() for word in text.split(","))
    return tuple(word for word in words if word not in ("", "none", "(null)"))


def _partition(record: Record) -> Partition:
    return Partition(
        name=record["PartitionName"],
        state=record.get("State", "UP"),
        nodes=text_or_none(record.get("Nodes", "")),
        total_nodes=_number(record.get("TotalNodes", ""), 0),
        max_time_s=parse_limit_s(record.get("MaxTime", "")),
        max_nodes=_limit(record.get("MaxNodes", "")),
        default_time_s=parse_limit_s(record.get("DefaultTime", "")),
        grace_s=_number(record.get("GraceTime", ""), 0),
        preempt_mode=record.get("PreemptMode", "OFF"),
        priority_tier=_number(record.get("PriorityTier", ""), 1),
        is_default=record.get("Default") == "YES",
        allow_accounts=_allowed(record.get("AllowAccounts", "ALL")),
        allow_qos=_allowed(record.get("AllowQos", "ALL")),
        qos=text_or_none(record.get("QoS", "")),
    )


def _node(record: Record) -> Node:
    gpus: dict[str, int] = {}
    for kind, count in _gpus(record.get("Gres", "")):
        gpus[kind] = gpus.get(kind, 0) + count
    return Node(
        name=record["NodeName"],
        state=tuple(word.rstrip("*~#!%$@^-") for word in record.get("State", "UNKNOWN").split("+")),
        partitions=tuple(name for name in record.get("Partitions", "").split(",") if name),
        cpus=_number(record.get("CPUTot", ""), 0),
        memory_mib=_number(record.get("RealMemory", ""), 0),
        gpus=gpus,
        used_gpus=sum(count for _, count in _gpus(record.get("GresUsed", ""))),
        features=tuple(
            name for name in (text_or_none(record.get("AvailableFeatures", "")) or "").split(",") if name
        ),
        reason=text_or_none(record.get("Reason", "")),
    )


def _gpus(gres: str) -> list[tuple[str, int]]:
    return [(match["type"] or "", int(match["count"])) for match in _GPU.finditer(gres)]


def _allowed(text: str) -> tuple[str, ...] | None:
    return None if text in ("ALL", "(null)", "") else tuple(text.split(","))


def _number(text: str, default: int) -> int:
    match = re.match(r"\d+", text.strip())
    return int(match[0]) if match else default


def _limit(text: str) -> int | None:
    return int(text) if text.isdigit() else None
