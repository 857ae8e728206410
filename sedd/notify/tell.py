"""Tell how runs and plans ended, that a run stands still, that its job is gone."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from sedd.config.settings import NotifySettings
from sedd.errors import RunError, SeddError
from sedd.notify.deliver import deliver, settings_of
from sedd.notify.message import end_message, loss_message, plan_message, stall_message
from sedd.rundir.events import STAYS, Event, read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.plan_record import find_plan
from sedd.rundir.read_usage import read_usage
from sedd.rundir.usage import usage_words

_DONE = ("completed", "gave_up", "cancelled", "stopped")
"""Words after which nothing happens to a run by itself."""


def tell_end(run: RunDir, *, is_login: bool) -> None:
    """Tell how a run ended, and its plan, if they have and nobody has told. Raises: NotSentError on the login side."""
    with _only_remarked(is_login):
        manifest, events = read_manifest(run), read_events(run.events)
        message = end_message(run.name, run.id, events, used=usage_words(read_usage(run).within()))
        if message is not None:
            deliver(run.path, message, settings_of(manifest), run=f"{run.name}/{run.id}", is_login=is_login)
        if manifest.get("plan") and is_over(events):
            _tell_plan(run, str(manifest["plan"]), settings_of(manifest), is_login=is_login)


def tell_stall(run: RunDir, *, attempt: int, why: str, is_login: bool) -> None:
    """Tell that an attempt stands still, if nobody has told. Raises: NotSentError on the login side."""
    with _only_remarked(is_login):
        message = stall_message(run.name, run.id, attempt, why)
        settings = settings_of(read_manifest(run))
        deliver(run.path, message, settings, run=f"{run.name}/{run.id}", is_login=is_login)


def tell_loss(run: RunDir, *, attempt: int, why: str, is_login: bool) -> None:
    """Tell that a run's job is gone without a last word. Raises: NotSentError on the login side."""
    with _only_remarked(is_login):
        message = loss_message(run.name, run.id, attempt, why)
        settings = settings_of(read_manifest(run))
        deliver(run.path, message, settings, run=f"{run.name}/{run.id}", is_login=is_login)


def is_over(events: Sequence[Event]) -> bool:
    """Whether a run has had its last word, as far as its events say."""
    return last_word(events) in _DONE


def last_word(events: Sequence[Event]) -> str:
    """The newest event that moved a run on."""
    return next((e.event for e in reversed(events) if e.event not in STAYS), "")


def _tell_plan(run: RunDir, name: str, settings: NotifySettings | None, *, is_login: bool) -> None:
    """Tell that nothing of a plan is left to run; runs that wait in vain for one that failed count as done."""
    plan = find_plan(name, run.path.parent.parent)
    if plan is None or run not in plan.runs:
        return  # a newer version of the plan does without this run
    told = {each: read_events(each.events) for each in plan.runs}
    words = {each: last_word(events) for each, events in told.items()}
    failed = [each for each, word in words.items() if word in ("gave_up", "cancelled")]
    if not all(word in _DONE or plan.is_in_vain(each, failed) for each, word in words.items()):
        return
    lines = [f"plan {name} is done."]
    for stage in plan.stages:
        counts = Counter(words[each] if words[each] in _DONE else "waits in vain" for each in stage.runs)
        ends = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in counts.items())
        lines.append(f"{stage.name}: {ends}")
    # Done once more after `sedd requeue` of what had failed, or after `sedd extend`: another occasion.
    attempts = sum(max((event.attempt for event in events), default=0) for events in told.values())
    message = plan_message(name, "\n".join([*lines, f"sedd status {name}"]), attempts=attempts)
    deliver(plan.folder, message, settings, run=name, is_login=is_login)


@contextlib.contextmanager
def _only_remarked(is_login: bool) -> Iterator[None]:
    """On a node a message that cannot be sent, or a file that cannot be read, is a line in the log."""
    try:
        yield
    except (SeddError, OSError) as e:
        if is_login and not isinstance(e, RunError):
            raise
        print(f"notify: {e.message if isinstance(e, SeddError) else e.strerror}", flush=True)
