"""Read one run folder; files that did not change since the last time are not read again."""

import dataclasses
import datetime as dt
import json
import os
from collections.abc import Callable
from typing import Any

from sedd.errors import RunError
from sedd.monitor.read.facts import EVENTS_FILE, HEARTBEAT_FILE, JobEvidence, Plan, RunFacts
from sedd.monitor.read.history import History, parse_history
from sedd.monitor.read.task_result import TaskResult, find_result
from sedd.rundir.heartbeat import Heartbeat, parse_heartbeat
from sedd.rundir.job_output import find_job_output, telling_line
from sedd.rundir.layout import RunDir, read_manifest

_LAST_ROWS_BYTES = 2000
_ENDED = frozenset({"completed", "gave_up", "cancelled", "stopped"})


class Folder:
    """One run folder: the facts last read from it and the stamps of the files they came from."""

    __slots__ = ("_base", "_facts", "_joined", "_output", "_stamps", "path", "run")

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.path = str(run.path)
        self._stamps: dict[str, object] = {}
        self._facts: RunFacts | None = None
        self._base: RunFacts | None = None
        self._joined: RunFacts | None = None
        self._output: tuple[object, str] = (None, "")

    def read(self) -> RunFacts | None:
        """The facts as of now, without evidence about its job; None when the folder is no run (any more)."""
        old = self._facts
        if old is not None and has_ended(old.history) and not old.unreadable and self._is_unchanged(_EVENTS):
            return old
        changed: dict[str, Any] = {}
        unreadable: list[str] = []
        for name in _FILES:
            # The manifest changes with an event alone (`extended`, `reshaped`), before which it is written.
            is_asked = name != _MANIFEST or old is None or not self._is_unchanged(_EVENTS)
            if is_asked and (problem := self._read_changed(name, changed)):
                unreadable.append(problem)
        if self._stamps[_EVENTS] is None and _stamp(f"{self.path}/{_MANIFEST}") is None:
            return None
        if beat := changed.get("beat"):
            changed["beat"] = self._with_loss(beat)
        if history := changed.get("history"):
            changed["result"] = self._result(history, changed.get("plan"))
        return self._updated(changed, tuple(unreadable))

    def job_output(self, facts: RunFacts) -> str:
        """The line of its job's own output that says best why the job ended; read again only when it changed."""
        path = find_job_output(self.run, facts.history.job_id, sweep=facts.plan.sweep)
        if path is None:
            return ""
        stamp = _stamp(str(path))
        if self._output[0] != stamp:
            self._output = (stamp, telling_line(path))
        return self._output[1]

    @property
    def owner_uid(self) -> int:
        """Who made the run, whose job trains it: the owner of its manifest, as far as that was read."""
        stamp = self._stamps.get(_MANIFEST)
        return int(stamp[-1]) if isinstance(stamp, tuple) else os.geteuid()

    def joined(self, facts: RunFacts) -> RunFacts | None:
        """What `join` last made of these same facts."""
        return self._joined if facts is self._base else None

    def join(self, facts: RunFacts, evidence: JobEvidence) -> RunFacts:
        """`facts`, as read, with evidence about its job: the same object as last time when neither has changed."""
        joined = self._joined
        if joined is None or facts is not self._base or joined.evidence != evidence:
            # Not dataclasses.replace: it takes five times as long, for ten thousand runs.
            joined = RunFacts(
                run=facts.run,
                plan=facts.plan,
                history=facts.history,
                beat=facts.beat,
                evidence=evidence,
                unreadable=facts.unreadable,
                manifest_damage=facts.manifest_damage,
                result=facts.result,
            )
        self._base, self._joined = facts, joined
        return joined

    def _is_unchanged(self, name: str) -> bool:
        return _stamp(f"{self.path}/{name}") == self._stamps[name]

    def _read_changed(self, name: str, changed: dict[str, Any]) -> str | None:
        """Read a file if it changed, into `changed`; what is wrong with it, if it may not be read."""
        path = f"{self.path}/{name}"
        if name in self._stamps and _stamp(path) == self._stamps[name]:
            return None
        field, parse = _FILES[name]
        try:
            self._stamps[name], content = _read(path)
        except (FileNotFoundError, NotADirectoryError):
            self._stamps[name], content = None, b""
        except OSError as e:
            self._stamps[name] = "unreadable"  # no stamp is: it is tried again next time
            return f"{name}: {e.strerror}"
        changed[field] = parse(content)
        return None

    def _with_loss(self, beat: Heartbeat) -> Heartbeat:
        """A later attempt's beat with what the one before had learnt, until it has logged a step of its own."""
        if beat.loss is not None or beat.attempt < 2:
            return beat
        try:
            _, content = _read(f"{self.path}/metrics.jsonl", last=_LAST_ROWS_BYTES)
        except OSError:
            return beat
        row = parse_last_row(content)
        return dataclasses.replace(beat, loss=row.get("loss"), validation_bound=row.get("validation_bound"))

    def _result(self, history: History, plan: Plan | None) -> TaskResult | None:
        """What a run has come to that says it is completed: the event comes after the file, which stays as it is."""
        plan = plan or (self._facts.plan if self._facts else None)
        is_done = history.last is not None and history.last.event == "completed"
        return find_result(self.run, plan.task) if plan is not None and is_done else None

    def _updated(self, changed: dict[str, Any], unreadable: tuple[str, ...]) -> RunFacts:
        facts = self._facts
        if facts is None:
            # A damaged manifest: what the events say is still worth showing.
            plan = changed.pop("plan", None)
            damage = "" if plan or _MANIFEST in _names(unreadable) else _why_damaged(self.run)
            plan = plan or Plan(made=_made(self.run))
            facts = RunFacts(
                run=self.run, plan=plan, **changed, unreadable=unreadable, manifest_damage=damage
            )
            self._facts = facts
            return facts
        if changed.get("plan", facts) is None:
            del changed["plan"]  # damaged since: what it said before is still worth showing
        if changed or unreadable != facts.unreadable:
            facts = dataclasses.replace(facts, **changed, unreadable=unreadable)
        self._facts = facts
        return facts


def _names(unreadable: tuple[str, ...]) -> set[str]:
    return {what.partition(":")[0] for what in unreadable}


def _why_damaged(run: RunDir) -> str:
    """`manifest.json:3: damaged: Expecting value`."""
    try:
        read_manifest(run)
    except RunError as e:
        return e.message.replace(f"{run.path}{os.sep}", "")
    return f"{_MANIFEST}: damaged: a field is missing"


def has_ended(history: History) -> bool:
    """Whether the run has had its last word, whatever its job does."""
    return history.last is not None and history.last.event in _ENDED


def parse_plan(content: bytes) -> Plan | None:
    """What manifest.json says; None when it is damaged."""
    try:
        m = json.loads(content.decode())
        gpu = (m.get("profile") or {}).get("gpu") or {}
        return Plan(
            made=dt.datetime.fromisoformat(m["created"]),
            task=m.get("task") or "train",
            steps=m.get("steps"),
            gpus=m.get("gpus"),
            gpu_type=gpu.get("type"),
            executor=m.get("executor") or "",
            sweep=m.get("sweep"),
            point=m.get("point") or {},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_last_row(content: bytes) -> dict[str, Any]:
    """The newest whole row in the end of a metrics.jsonl; {} when there is none."""
    for line in reversed(content.split(b"\n")):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            return row
    return {}


_MANIFEST, _EVENTS = "manifest.json", EVENTS_FILE
_FILES: dict[str, tuple[str, Callable[[bytes], Plan | History | Heartbeat | None]]] = {
    _MANIFEST: ("plan", parse_plan),
    HEARTBEAT_FILE: ("beat", parse_heartbeat),
    # Last: a beat read before the last word is never newer than it.
    _EVENTS: ("history", parse_history),
}


def _stamp(path: str) -> object:
    try:
        return _stamp_of(os.stat(path))
    except OSError:
        return None


def _stamp_of(status: os.stat_result) -> object:
    # A plain tuple: thirty thousand of them are made at every look at ten thousand runs. The owner is last.
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_uid


def _read(path: str, *, last: int | None = None) -> tuple[object, bytes]:
    """A file's stamp, and its content or only its last bytes: what is written meanwhile makes another stamp."""
    handle = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(handle)
        start = max(0, status.st_size - last) if last else 0
        return _stamp_of(status), os.pread(handle, status.st_size - start, start)
    finally:
        os.close(handle)


def _made(run: RunDir) -> dt.datetime:
    """From the run's id, which begins with the time; for a folder with another name, long ago."""
    try:
        return dt.datetime.strptime(run.id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return dt.datetime.fromtimestamp(0, dt.UTC)
