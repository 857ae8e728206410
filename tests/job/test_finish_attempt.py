"""The end of a run that has saved all is recorded as soon as the disk has space, without another attempt."""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sedd.job import final_events
from sedd.job import finish_attempt as module
from sedd.job.attempt import Task
from sedd.job.causes import Ending
from sedd.job.environment import TaskEnvironment
from sedd.job.final_events import PATIENCE_S, record_event
from sedd.job.finish_attempt import finish_attempt
from sedd.job.processes import signals_held
from sedd.rundir.attempts import Cause
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, create_run
from tests.launch.conftest import small_experiment

SPACE_AFTER_S = 100.0


class Disk:
    """Refuses events until so many seconds have been waited; the clock that is waited by."""

    def __init__(self, space_after_s: float) -> None:
        self.now, self._space_after_s = 0.0, space_after_s
        self.note, self.asks_to_leave_at = final_events.note_event, float("inf")

    def note_event(self, *arguments: object, **fields: object) -> bool:
        return self.now >= self._space_after_s and self.note(*arguments, **fields)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.asks_to_leave_at:
            signal.pthread_kill(
                threading.get_ident(), signal.SIGTERM
            )  # other threads of pytest do not hold it


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    made = create_run(tmp_path_factory.mktemp("runs"), "small", "20261122-080000-aaaaaaaa", "name: small\n")
    record_event(made, "attempt_started", attempt=1, job_id="h:1:1", restarts=0)
    record_event(made, "checkpoint", attempt=1, step=40, reason="last")
    return made


@pytest.fixture
def disk(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    full = Disk(SPACE_AFTER_S)
    monkeypatch.setattr(final_events, "note_event", full.note_event)
    monkeypatch.setattr(final_events, "time", full)
    with signals_held():
        yield full
        while signal.sigpending():
            signal.sigwait(signal.sigpending())


def finish(run: RunDir, *signals: int, has_entries: bool = True) -> Cause:
    node = TaskEnvironment(executor="local", job_id="h:1:1", log_name="1", host="h")
    task = Task(run=run, experiment=small_experiment(), environment=node, command=("true",))
    ending = Ending(exit_code=0, signals=frozenset(signals), time_left_s=None, rank=0)
    return finish_attempt(task, ending, read_events(run.events), attempt=1, has_entries=has_entries).cause


def test_it_is_recorded_when_the_disk_has_space_again(run: RunDir, disk: Disk) -> None:
    assert finish(run) is Cause.COMPLETED
    assert read_events(run.events)[-1].event == "completed"
    assert SPACE_AFTER_S <= disk.now <= SPACE_AFTER_S + 2.0


def test_a_stop_signal_meanwhile_ends_the_wait_so_that_another_attempt_is_secured(
    run: RunDir, disk: Disk
) -> None:
    disk.asks_to_leave_at = 40.0
    assert finish(run) is Cause.DISK_FULL
    assert disk.now <= 42.0


@pytest.mark.parametrize("how", ["asked to leave already", "in the batch script"])
def test_who_may_be_killed_any_time_waits_no_longer_than_before(how: str, run: RunDir, disk: Disk) -> None:
    signals = (signal.SIGTERM,) if how == "asked to leave already" else ()
    assert finish(run, *signals, has_entries=bool(signals)) is Cause.DISK_FULL
    assert disk.now <= PATIENCE_S + 2.0


@pytest.mark.parametrize("is_refused", [False, True])
def test_where_nobody_may_write_no_attempt_follows_and_where_there_is_no_room_one_does(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    monkeypatch.setattr(module, "refusal", lambda path, **_: "permission denied" if is_refused else None)
    node = TaskEnvironment(executor="local", job_id="h:1:1", log_name="1", host="h")
    task = Task(run=run, experiment=small_experiment(), environment=node, command=("true",))
    result = module.finish_unrecorded(task, read_events(run.events))
    assert (result.next is None, result.exit_code) == (is_refused, int(is_refused))


def test_where_this_node_alone_may_not_write_another_one_goes_on(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that one node has mounted for reading alone must not end a run."""

    def is_read_only(path: object, *arguments: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "ensure_next_attempt", lambda task, events, **how: not asked.append(how))
    node = TaskEnvironment(executor="slurm", job_id="7", log_name="7", host="v100-2")
    task = Task(run=run, experiment=small_experiment(), environment=node, command=("true",))
    events = read_events(run.events)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", is_read_only)
        result = module.finish_unrecorded(task, events)
    assert (result.cause, result.exit_code, result.starts_in_job) == (Cause.NODE_FAULT, 0, False)
    assert [(how["cause"], how["avoid"], how["may_pause"]) for how in asked] == [
        (Cause.NODE_FAULT, ("v100-2",), True)
    ]
