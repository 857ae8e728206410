"""The clock of this machine against that of the file system that holds the run."""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, ok, warn
from sedd.preflight.read.filesystem import existing, measure_writing

# Heartbeats are read on another machine; one that is a minute old counts as stale.
_TOLERATED_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    ahead_s: float


def gather(context: CheckContext) -> Facts | None:
    if not context.is_first_here:
        return None
    try:
        folder = existing(context.folder)
        writing = context.answers.once(("clock", folder), lambda: measure_writing(folder, size_bytes=0))
        return Facts(ahead_s=writing.clock_ahead_s)
    except OSError:  # the check `run_folder` says so
        return None


def judge(facts: Facts) -> Verdict:
    size = abs(facts.ahead_s)
    if size <= _TOLERATED_S:
        return ok(f"within {max(size, 0.1):.1f} s of the file system's")
    direction = "ahead of" if facts.ahead_s > 0 else "behind"
    return warn(
        f"{size:.0f} s {direction} the file system's clock",
        "heartbeats will look stale and times in events wrong: tell the site (NTP), training itself is not harmed",
    )


CHECK = Check(
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.NODE,
    of_request=True,
    catches="a wrong clock: runs that look dead or start in the future",
    takes="< 0.1 s",
    passing=Facts(ahead_s=0.02),
    failing=Facts(ahead_s=-3600.0),
)
