"""One run in full, for the detail view and the report."""

import datetime as dt
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sedd.errors import RunError
from sedd.monitor.decide.snapshot import RunView, view_run
from sedd.monitor.decide.state import State
from sedd.monitor.decide.timeline import AttemptRow, timeline
from sedd.monitor.read.curves import Curves, read_curves
from sedd.monitor.read.facts import RunFacts
from sedd.monitor.read.logs import last_lines, telling_log
from sedd.monitor.read.task_result import TaskResult
from sedd.rundir.events import Event, read_events
from sedd.rundir.find import typed_name
from sedd.rundir.layout import RunDir, read_lineage
from sedd.rundir.read_usage import read_usage
from sedd.rundir.usage import Usage

T = TypeVar("T")
_LOG_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A run at the moment `taken`."""

    taken: dt.datetime
    view: RunView
    timeline: tuple[AttemptRow, ...]
    curves: Curves
    events: tuple[Event, ...]
    usage: Usage
    findings: tuple[Mapping[str, Any], ...]
    log: Path | None
    log_end: tuple[str, ...]
    """Its last lines, for a run in trouble."""
    typed: str
    """What to type for the run in a command."""
    store: Path | None = None
    """What a run of `task: data` builds."""
    offline_wandb: Path | None = None
    """The folder of what wandb has recorded without a network, if it has."""
    lineage: Mapping[str, Any] | None = None
    """Of a fine-tuning: the network that it started from; before it has, the one it was submitted with."""


def inspect(facts: RunFacts, *, now: dt.datetime) -> Inspection:
    """Read what the snapshot leaves out; what this user may not read is left out too."""
    view = view_run(facts, now=now)
    log = telling_log(facts.run)
    trouble = view.state.is_trouble and log is not None
    return Inspection(
        taken=now,
        view=view,
        timeline=timeline(facts, view, now=now),
        curves=_readable(lambda: read_curves(facts.run.metrics), Curves()),
        events=_readable(lambda: read_events(facts.run.events), ()),
        usage=_readable(lambda: read_usage(facts.run).within(), Usage()),
        findings=facts.history.findings,
        log=log,
        log_end=_readable(lambda: tuple(last_lines(log, _LOG_LINES).splitlines()), ())
        if trouble and log
        else (),
        typed=typed_name(facts.run),
        store=_readable(lambda: _store(facts.run), None) if view.unit == "bytes" else None,
        offline_wandb=_readable(lambda: _offline_wandb(facts.run), None),
        lineage=known_lineage(facts),
    )


def known_lineage(facts: RunFacts) -> dict[str, Any] | None:
    """The network that a run was fine-tuned from; None for other runs, or where it may not be read."""
    return _readable(lambda: read_lineage(facts.run), None)


def _offline_wandb(run: RunDir) -> Path | None:
    folder = run.wandb / "wandb"
    return folder if any(folder.glob("offline-run-*")) else None


def _store(run: RunDir) -> Path | None:
    import yaml

    try:
        document = yaml.safe_load(run.spec.read_bytes())
    except yaml.YAMLError:
        return None
    build = document.get("build") if isinstance(document, dict) else None
    store = build.get("store") if isinstance(build, dict) else None
    return Path(store) if isinstance(store, str) else None


def result_text(result: TaskResult) -> str:
    """`at most 2.4123 ± 0.0021 nats a residue, perplexity 11.16`; nothing for a result without numbers."""
    parts = []
    if result.nats_per_residue is not None:
        error = f" ± {result.standard_error:.4f}" if result.standard_error is not None else ""
        parts.append(f"at most {result.nats_per_residue:.4f}{error} nats a residue")
    if result.perplexity is not None:
        parts.append(f"perplexity {result.perplexity:.2f}")
    parts += [f"Spearman {rho:.3f} ({method})" for method, rho in result.spearman.items()]
    return ", ".join(parts)


def lineage_text(lineage: Mapping[str, Any]) -> str:
    """`small/20261122-100000-aaaa1111, step 4000, EMA weights, from base/…`, oldest last."""
    names, each = [], lineage
    while each:
        weights = "EMA" if each.get("weights") == "ema" else str(each.get("weights"))
        names.append(f"{each.get('run')}, step {each.get('step')}, {weights} weights")
        each = each.get("parent") or {}
    return "; that from ".join(names)


def _readable(read: Callable[[], T], default: T) -> T:
    try:
        return read()
    except (OSError, RunError):
        return default


def next_commands(view: RunView, typed: str, *, store: Path | None = None) -> tuple[str, str, str]:
    """The three commands that make sense now; `typed` is what to type for the run, `store` what it built."""
    commands, shown = _NEXT.get(view.state, _WHILE_LIVE), view.run.path
    if view.state is State.COMPLETED and view.unit != "steps":
        commands = _DATA_DONE if view.unit == "bytes" else _TASK_DONE
        if view.result is not None:
            shown = view.result.file
            commands = _TEXT_DONE if shown.suffix in _TEXTS else _TASK_DONE
    path, built = shlex.quote(str(shown)), shlex.quote(str(store)) if store else "STORE"
    return tuple(command.format(id=typed, path=path, store=built) for command in commands)  # type: ignore[return-value] # three of them


_WHILE_LIVE: Sequence[str] = ("sedd logs {id} -f", "sedd requeue {id}", "sedd cancel {id}")
_AFTER_TROUBLE: Sequence[str] = ("sedd logs {id}", "sedd requeue {id}", "sedd report {id} -o report.html")
_DATA_DONE: Sequence[str] = ("sedd logs {id}", "sedd data info {store}", "sedd data verify {store}")
_TASK_DONE: Sequence[str] = ("sedd logs {id}", "ls -l {path}", "sedd report {id} -o report.html")
_TEXT_DONE: Sequence[str] = ("sedd logs {id}", "less {path}", "sedd report {id} -o report.html")
_TEXTS = frozenset({".json", ".csv", ".fasta"})
"""Endings of results that a person can read."""
_NEXT: Mapping[State, Sequence[str]] = {
    State.COMPLETED: (
        "sedd sample {id} -n 10 -o samples.fasta",
        "sedd evaluate {id} --fasta proteins.fasta",
        "sedd report {id} -o report.html",
    ),
    State.UNSUBMITTED: ("sedd requeue {id}", "sedd cancel {id}", "rm -r {path}"),  # a run is its folder
    State.QUEUED: ("sedd status {id} --watch", "sedd logs {id} -f", "sedd cancel {id}"),
    State.REQUEUED: ("sedd status {id} --watch", "sedd logs {id}", "sedd cancel {id}"),
    State.PAUSED: ("sedd status {id} --watch", "sedd logs {id}", "sedd cancel {id}"),
    State.STOPPED: (
        "sedd logs {id}",
        "sedd evaluate {id} --fasta proteins.fasta",
        "sedd report {id} -o report.html",
    ),
    State.FAILED: _AFTER_TROUBLE,
    State.GAVE_UP: _AFTER_TROUBLE,
    State.LOST: _AFTER_TROUBLE,
    State.CANCELLED: _AFTER_TROUBLE,
    # Of `sedd train`: what it printed is in its terminal.
    State.INTERRUPTED: ("sedd train {path}", "sedd requeue {id}", "sedd report {id} -o report.html"),
}
