"""The end of a run that has saved all is recorded as soon as the disk has space, without another attempt."""

import errno
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.job import final_events, next_attempt
from sedd.job import finish_attempt as module
from sedd.job.attempt import Task
from sedd.job.causes import Ending
from sedd.job.environment import TaskEnvironment
from sedd.job.final_events import PATIENCE_S, record_event
from sedd.job.finish_attempt import AttemptResult, finish_attempt
from sedd.job.processes import signals_held
from sedd.rundir.attempts import Cause
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, create_run, write_manifest
from tests.launch.conftest import small_experiment

SPACE_AFTER_S = 100.0


class Disk:
    """Refuses events until this many seconds have been waited; the clock that is waited by."""

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
    write_manifest(made, {"profile": {"executor": "slurm"}})
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


@pytest.fixture
def read_only(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's events can be read and not written."""
    opened = os.open

    def is_read_only(path: object, *arguments: Any) -> int:
        if str(path) == str(run.events):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, *arguments)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr(os, "open", is_read_only)


class Slurm:
    """Starts a job on one node after another that it does not leave out, as often as it is asked to."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, nodes: int, leaves_out: tuple[str, ...] = ()
    ) -> None:
        self.nodes = [f"v100-{number}" for number in range(1, nodes + 1)]
        self.left_out, self.asked = leaves_out, list[dict[str, Any]]()
        monkeypatch.setattr(next_attempt, "query_own_fact", self.query_own_fact)
        monkeypatch.setattr(next_attempt, "query_hostnames", lambda nodes: nodes.split(","))
        monkeypatch.setattr(module, "ensure_next_attempt", self.ensure_next_attempt)

    def query_own_fact(self, *_: object) -> JobFact:
        return JobFact(job_id="7", state=JobState.RUNNING, excluded=",".join(self.left_out) or None)

    def ensure_next_attempt(self, *_: object, **how: Any) -> bool:
        self.left_out = how["avoid"]  # SLURM's new list replaces the old one
        self.asked.append(how)
        return True

    def run_job(self, run: RunDir, *, first_restarts: int = 0) -> list[tuple[str, AttemptResult]]:
        """Where it was started, and what came of it, until no attempt follows."""
        starts: list[tuple[str, AttemptResult]] = []
        while (not starts or starts[-1][1].next) and len(starts) < 20:
            host = next(name for name in self.nodes if name not in self.left_out)
            restarts = first_restarts + len(starts)
            node = TaskEnvironment(executor="slurm", job_id="7", log_name="7", host=host, restarts=restarts)
            task = Task(run=run, experiment=small_experiment(), environment=node, command=("true",))
            starts.append((host, module.finish_unrecorded(task, read_events(run.events))))
        return starts


@pytest.mark.usefixtures("read_only")
def test_where_this_node_alone_may_not_write_another_one_goes_on(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that one node has mounted for reading alone must not end a run."""
    slurm = Slurm(monkeypatch, nodes=9)
    _, result = slurm.run_job(run)[0]
    assert (result.cause, result.exit_code, result.starts_in_job) == (Cause.NODE_FAULT, 0, False)
    how = slurm.asked[0]
    assert (how["cause"], how["avoid"], how["may_pause"]) == (Cause.NODE_FAULT, ("v100-1",), True)


@pytest.mark.usefixtures("read_only")
def test_where_every_node_has_it_read_only_the_fault_is_the_runs_and_ends_it(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    allowed = small_experiment().retry.node_faults
    starts = Slurm(monkeypatch, nodes=9).run_job(run)
    assert [host for host, _ in starts] == [f"v100-{number}" for number in range(1, allowed + 2)]
    assert (starts[-1][1].next, starts[-1][1].exit_code) == (None, 1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "given up" in line]
    assert f"{allowed + 1} nodes" in line
    assert f"sedd requeue {run.id}" in line


@pytest.mark.usefixtures("read_only")
def test_nodes_that_somebody_else_keeps_from_the_job_are_no_faults(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the profile, which says so anew each time, and by `scontrol update`."""
    write_manifest(run, {"profile": {"executor": "slurm", "exclude": "v100-1,v100-2"}})
    slurm = Slurm(monkeypatch, nodes=20, leaves_out=tuple(f"v100-{number}" for number in range(1, 9)))
    allowed = small_experiment().retry.node_faults
    assert len(slurm.run_job(run)) == allowed + 1
    assert slurm.asked[0]["avoid"] == tuple(f"v100-{number}" for number in range(3, 10))


@pytest.mark.usefixtures("read_only")
def test_starts_before_the_last_that_was_recorded_do_not_count(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = {
        "event": "attempt_started",
        "attempt": 2,
        "job_id": "7",
        "restarts": 6,
        "t": "2026-11-22T09:00:00Z",
    }
    run.events.write_text(run.events.read_text() + json.dumps(earlier) + "\n")
    slurm = Slurm(monkeypatch, nodes=20, leaves_out=tuple(f"v100-{number}" for number in range(1, 9)))
    assert len(slurm.run_job(run, first_restarts=7)) == small_experiment().retry.node_faults + 1
