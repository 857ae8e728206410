"""Say in one line why a run ended without completing."""

from sedd.monitor.decide.snapshot import RunView
from sedd.monitor.decide.state import State, after_words
from sedd.monitor.read.logs import telling_log
from sedd.rundir.events import read_events


def failure_line(view: RunView) -> str:
    """`small/20261122-120000-1a2b3c4d: gave up after a crash: ValueError: no; log /runs/…/logs/12_0.out`."""
    log = telling_log(view.run)
    why = f": {view.why}" if view.why and view.state is not State.CANCELLED else f" {view.why}".rstrip()
    ended = " ".join(filter(None, [view.state, _after(view)]))
    return f"{view.name}/{view.id}: {ended}{why}" + (f"; log {log}" if log else "")


def _after(view: RunView) -> str:
    """`after a crash`, where a last word names the cause."""
    events = read_events(view.run.events)
    last = next((event for event in reversed(events) if event.event != "checkpoint"), None)
    return after_words(last.get("cause")) if last is not None and last.event == "gave_up" else ""
