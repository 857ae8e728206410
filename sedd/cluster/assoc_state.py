"""What slurmctld and slurmdbd say of associations and QOS, parsed: limits, and jobs counted against them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sedd.cluster.scontrol import Record, parse_records

QOS_FIELDS = ("name", "flags", "grpsubmit", "maxsubmitpu", "maxsubmitpa", "maxjobspu")
"""What `parse_qos` wants sacctmgr to print."""
CHOICE_FIELDS = ("account", "partition", "defaultqos", "qos")
"""What `parse_qos_choices` wants sacctmgr to print."""
_COUNT = re.compile(r"(?P<limit>N|\d+)?\((?P<used>\d+)\)")
_IN_QUEUE = re.compile(r"\b(?:GrpSubmitJobs|MaxSubmitJobsP[AU])=(?:N|\d+)?\((\d+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Qos:
    """The limits of a quality of service; None: not set."""

    name: str
    flags: tuple[str, ...] = ()
    grp_submit: int | None = None
    max_submit_per_user: int | None = None
    max_submit_per_account: int | None = None
    max_jobs_per_user: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssocState:
    """What slurmctld holds: records of associations, the user's default account, and jobs counted in each QOS.

    `counted[qos][holder]` is the number of pending and running jobs; the holder is `account dev`, `user 1000`,
    `user ada`, or `` for all together.
    """

    records: tuple[Record, ...] = ()
    default_account: str | None = None
    counted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QosChoice:
    """The QOS that an association's jobs get when they name none, and all that they may name."""

    account: str
    partition: str
    default: str
    allowed: tuple[str, ...]


def parse_assoc_state(text: str) -> AssocState:
    """`scontrol show assoc_mgr flags=users,assoc,qos`."""
    records = parse_records(text)
    default = next((r["DefAccount"] for r in records if r.get("DefAccount")), None)
    return AssocState(
        records=tuple(r for r in records if "Account" in r),
        default_account=default,
        counted=_counted(text),
    )


def parse_qos(text: str) -> dict[str, Qos]:
    """QOS by name, from sacctmgr's lines."""
    rows = (line.split("|") for line in text.splitlines())
    return {
        row[0]: Qos(
            name=row[0],
            flags=tuple(row[1].split(",")),
            grp_submit=_limit(row[2]),
            max_submit_per_user=_limit(row[3]),
            max_submit_per_account=_limit(row[4]),
            max_jobs_per_user=_limit(row[5]),
        )
        for row in rows
        if len(row) == len(QOS_FIELDS)
    }


def parse_qos_choices(text: str) -> list[QosChoice]:
    """What sacctmgr says of a user's associations."""
    rows = [line.split("|") for line in text.splitlines()]
    return [
        QosChoice(
            account=row[0], partition=row[1], default=row[2], allowed=tuple(filter(None, row[3].split(",")))
        )
        for row in rows
        if len(row) == len(CHOICE_FIELDS)
    ]


def parse_count(text: str) -> tuple[int, int] | None:
    """Limit and number in `150(8)`; None where no limit is set, as in `N(8)`."""
    match = _COUNT.fullmatch(text)
    return (int(match["limit"]), int(match["used"])) if match and (match["limit"] or "N") != "N" else None


def plain(text: str) -> str:
    """`root` for `root(1)`."""
    return text.partition("(")[0]


def _counted(text: str) -> dict[str, dict[str, int]]:
    """Jobs in the queue of each QOS, by holder; the name of an account or user stands above its numbers."""
    found: dict[str, dict[str, int]] = {}
    qos, kind, name = "", "", ""
    for line in text.splitlines():
        stripped = line.strip()
        if line.startswith("QOS="):
            qos, kind, name = plain(stripped.removeprefix("QOS=")), "", ""
        elif stripped in ("Account Limits", "User Limits"):
            kind = stripped.partition(" ")[0].lower()
        elif "=" not in stripped:
            name = plain(stripped)
        elif qos and (match := _IN_QUEUE.search(stripped)):
            found.setdefault(qos, {})[f"{kind} {name}".strip()] = int(match[1])
    return found


def _limit(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None
