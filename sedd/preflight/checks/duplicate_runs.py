"""Was this very spec submitted before, from this runs folder?"""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, warn
from sedd.rundir.attempts import is_cancelled, is_stopped, is_unsubmitted
from sedd.rundir.events import STAYS, read_events
from sedd.rundir.find import list_runs
from sedd.rundir.layout import RunDir, spec_hashes

_ENDED = ("completed", "gave_up", "cancelled", "stopped")
_MAY_BE_REPEATED = ("gave_up", "cancelled", "extended", "reshaped", "none")
"""Last events after which `sedd submit` takes the same spec again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    runs: tuple[tuple[str, str], ...]
    """Id and last event of every run of the same spec, oldest first."""
    changed: frozenset[str] = frozenset()
    """Ids of those that have had another spec since: they were extended, or requeued in another shape."""
    unsubmitted: int = 0
    """How many of them were made, and wait to be submitted."""


def gather(context: CheckContext) -> Facts:
    asked = {(experiment.name, experiment.hash()) for experiment in context.runs_together}
    names = {name for name, _ in asked}
    hashes = {run: spec_hashes(run) for run in list_runs(context.folder) if run.name in names}
    same = [run for run, had in hashes.items() if any((run.name, each) in asked for each in had)]
    unsubmitted = [run for run in same if is_unsubmitted(read_events(run.events))]
    return Facts(
        runs=tuple((run.id, _last_word(run)) for run in same),
        changed=frozenset(run.id for run in same if (run.name, hashes[run][0]) not in asked),
        unsubmitted=len(unsubmitted),
    )


def judge(facts: Facts) -> Verdict:
    if not facts.runs:
        return ok("no run of this spec yet")
    if facts.unsubmitted:
        return ok(
            f"{facts.unsubmitted} of {len(facts.runs)} runs of this spec wait to be submitted: these are next"
        )
    refusing = [each for each in facts.runs if each[1] not in _MAY_BE_REPEATED]
    identity, word = (refusing or facts.runs)[-1]
    others = f" and {len(facts.runs) - 1} more" if len(facts.runs) > 1 else ""
    state = word if word in _ENDED else f"last event: {word}"
    is_now = "was submitted as" if identity in facts.changed else "is"
    since = ", since then extended or reshaped" if identity in facts.changed else ""
    return warn(
        f"this very spec {is_now} run {identity} already ({state}{since}){others}",
        f"look first: sedd status {identity}",
    )


def _last_word(run: RunDir) -> str:
    """The newest event that counts: a run that was cancelled and submitted again is not cancelled."""
    events = read_events(run.events)
    if is_stopped(events):
        return "stopped"
    if is_cancelled(events):
        return "cancelled"
    return next((e.event for e in reversed(events) if e.event not in STAYS), "none")


CHECK = Check(
    sides=(Side.LOGIN,),
    of_request=True,
    catches="the same work queued twice",
    takes="< 0.1 s",
    passing=Facts(runs=()),
    failing=Facts(runs=(("20261122-193359-1a2b3c4d", "completed"),)),
)
