"""The result of a check, for people and for `--json`."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check came out."""

    OK = "OK"
    WARN = "WARN"
    """The job will start, and may end otherwise than expected."""
    FAIL = "FAIL"
    """The job would not run to its end."""
    UNKNOWN = "UNKNOWN"
    """It could not be looked at: nothing is known either way."""
    LATER = "LATER"
    """What it looks at does not exist yet, because an earlier stage of the plan makes it: the stage's node looks."""


class Fault(StrEnum):
    """Whose fault it is; in doubt the node's. What FILES and CARD come to is found out there (`find_fault.py`)."""

    JOB = "job"
    """The spec's, or the program's: any attempt would meet the same, so none follows."""
    NODE = "node"
    """This node's, or it may be: another attempt follows, on another node."""
    DISK = "disk"
    """There may be space again later: another attempt waits for it."""
    FILES = "files"
    """Of files that the spec names: the job's if this node sees their file system, else the node's."""
    CARD = "card"
    """Of what is asked of a card: the job's if it gets this kind of card on every node, else the node's."""
    PEER = "peer"
    """Another node's, whose ranks this one waited for in vain: `absent` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's answer: what it saw, and what to do about it unless all is well."""

    check: str
    status: Status
    saw: str
    hint: str | None = None
    fault: Fault | None = None
    """Of a FAIL on a node: JOB, NODE, DISK or PEER."""
    absent: tuple[int, ...] = ()
    """Ranks that did not come to where all ranks meet."""

    def as_json(self) -> dict[str, str | None]:
        """The finding as a JSON object; whom it waited for in vain is in what it saw."""
        return {name: value for name, value in asdict(self).items() if name != "absent"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding that does not know yet which check it belongs to."""

    status: Status
    saw: str
    hint: str | None = None
    fault: Fault | None = None
    """Of a FAIL that is not the fault of whom the check usually blames."""
    absent: tuple[int, ...] = ()
    """As in `Finding`."""


def ok(saw: str) -> Verdict:
    return Verdict(Status.OK, saw)


def warn(saw: str, hint: str) -> Verdict:
    return Verdict(Status.WARN, saw, hint)


def fail(saw: str, hint: str, fault: Fault | None = None, absent: tuple[int, ...] = ()) -> Verdict:
    return Verdict(Status.FAIL, saw, hint, fault, absent)


def unknown(saw: str, hint: str | None = None) -> Verdict:
    return Verdict(Status.UNKNOWN, saw, hint)


def later(saw: str) -> Verdict:
    return Verdict(Status.LATER, saw)


def worst(verdicts: Iterable[Verdict]) -> Status:
    """The gravest status: FAIL before WARN before UNKNOWN before LATER before OK."""
    return max((v.status for v in verdicts), key=_GRAVITY.index, default=Status.OK)


def combine(verdicts: Iterable[Verdict], *, all_well: str) -> Verdict:
    """One verdict of several: the gravest status, with what was seen and advised at every problem."""
    problems = [v for v in verdicts if v.status is not Status.OK]
    if not problems:
        return ok(all_well)
    hints = dict.fromkeys(v.hint for v in problems if v.hint)
    return Verdict(worst(problems), "; ".join(v.saw for v in problems), "; ".join(hints) or None)


def has_failures(findings: Iterable[Finding], *, strict: bool = False) -> bool:
    """Whether the job would not run to its end; strict: or may end otherwise than expected."""
    bad = {Status.FAIL, Status.WARN} if strict else {Status.FAIL}
    return any(finding.status in bad for finding in findings)


_GRAVITY = (Status.OK, Status.LATER, Status.UNKNOWN, Status.WARN, Status.FAIL)
