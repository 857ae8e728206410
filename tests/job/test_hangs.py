"""When a training that reports no progress is called hung, and when never."""

import dataclasses
import datetime as dt
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sedd.job.watch
from sedd.errors import RunError
from sedd.job import other_ranks
from sedd.job.attempt import Meeting, Task, Trainings
from sedd.job.causes import Ending, cause_of
from sedd.job.environment import TaskEnvironment
from sedd.job.final_events import record_event
from sedd.job.hangs import Stillness, limit_s, save_limit_s, why_hung
from sedd.job.processes import SignalBox
from sedd.job.watch import watch as watch_attempt
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event, read_events
from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.rundir.rank_progress import PHASES, ProgressWriter, RankProgress, open_progress
from tests.launch.conftest import small_experiment

AT_20 = RankProgress(t=100.0, step=20, phase="training", step_s=0.5, slowest_s=0.8)
POLL_S = 0.1


def verdict(stillness: Stillness, *, slowest_save_s: float = 0.0, is_first: bool = True) -> str | None:
    return why_hung(stillness, hang_after_s=60.0, slowest_save_s=slowest_save_s, is_first=is_first)


def watch(progress: RankProgress, seconds: float, *, every_s: float = POLL_S) -> Stillness:
    """Look at an unchanged report for so long."""
    stillness = Stillness()
    for tick in range(int(seconds / every_s) + 1):
        stillness.see(progress, 1000.0 + tick * every_s)
    return stillness


def test_a_training_that_stands_still_is_hung_after_the_limit_and_not_before() -> None:
    assert verdict(watch(AT_20, 59)) is None
    why = verdict(watch(AT_20, 61))
    assert why is not None
    assert "no progress for 61 s at step 20, training (limit 60 s)" in why


@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_has_its_limit_and_none_is_shorter_than_asked_for(phase: str) -> None:
    progress = dataclasses.replace(AT_20, phase=phase)
    limit = limit_s(progress, hang_after_s=60.0, slowest_save_s=0.0, is_first=True)
    others = limit_s(progress, hang_after_s=60.0, slowest_save_s=0.0, is_first=False)
    never = {"waiting", "stopping", "done"}
    assert (limit is None) == (phase in never)
    assert (others is None) == (phase in {*never, "meeting"}), "who waits for others does not hang"
    assert limit is None or (limit == 60.0 if phase in ("training", "meeting") else limit >= 600.0)
    assert others is None or others >= limit + 30.0, "rank 0's entry speaks first"
    if limit is not None:
        assert limit_s(progress, hang_after_s=7200.0, slowest_save_s=0.0, is_first=True) == 7200.0
    hung = verdict(watch(progress, 2.1 * 3600, every_s=1.0))
    assert (hung is None) == (phase in never)


def test_the_limit_grows_with_the_slowest_step_and_the_slowest_save() -> None:
    slow = dataclasses.replace(AT_20, slowest_s=30.0)
    assert limit_s(slow, hang_after_s=60.0, slowest_save_s=0.0, is_first=True) == 300.0
    saves = dataclasses.replace(AT_20, phase="checkpointing")
    assert limit_s(saves, hang_after_s=60.0, slowest_save_s=200.0, is_first=True) == 2000.0
    assert save_limit_s(hang_after_s=60.0, slowest_save_s=200.0, is_first=True) == 2000.0


def test_a_job_that_is_suspended_with_its_entry_does_not_hang() -> None:
    stillness = watch(AT_20, 30)
    stillness.see(AT_20, 1000.0 + 86400.0)
    assert stillness.still_s < 32
    assert verdict(stillness) is None


def test_a_checkpoint_that_is_never_written_is_a_hang_although_steps_are_taken() -> None:
    stillness = Stillness()
    for second in range(1000):
        stillness.see(dataclasses.replace(AT_20, t=float(second), step=second, save_since=5.0), float(second))
    assert "checkpoint" in (verdict(stillness) or "")
    for second in range(1000, 2000):  # saves that succeed, one every ten seconds
        saved = dataclasses.replace(AT_20, t=float(second), step=second, save_since=float(second // 10))
        stillness.see(saved, float(second))
    assert verdict(stillness) is None


def test_without_a_report_nothing_is_judged() -> None:
    stillness = Stillness()
    for second in range(10_000):
        stillness.see(None, float(second))
    assert verdict(stillness) is None


@given(st.lists(st.floats(min_value=0.01, max_value=59.0), min_size=1, max_size=20))
def test_steps_shorter_than_the_limit_are_never_a_hang(steps: list[float]) -> None:
    stillness, now = Stillness(), 0.0
    for number, step_s in enumerate(steps):
        progress = dataclasses.replace(AT_20, step=number, t=now, slowest_s=max(steps[:number], default=0.0))
        end = now + step_s
        while now < end:
            stillness.see(progress, now)
            assert verdict(stillness) is None
            now += 0.7


# --- the entries of two ranks, each of which sees its own alone ---


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = create_run(tmp_path, "small", "20261122-080000-aaaaaaaa", "name: small\n")
    write_manifest(made, {})
    record_event(made, "attempt_started", attempt=1, job_id="7", restarts=0, address="v100-0", port=1)
    return made


@pytest.fixture
def stopped() -> Iterator["subprocess.Popen[bytes]"]:
    """A training that takes no step."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def watched(run: RunDir, rank: int, phase: str, process: "subprocess.Popen[bytes]") -> Ending:
    """What the SLURM entry of a rank of two sees whose training reports this phase and then no more."""
    progress = open_progress()
    ProgressWriter(progress).phase(phase)
    node = TaskEnvironment(executor="slurm", job_id="7", log_name="7", host=f"v100-{rank}", rank=rank)
    asked = {"nodes": 2, "gpus_per_node": 1, "memory": "1GiB"}
    spec = small_experiment(resources=asked, retry={"hang_after": "1s"})
    task = Task(run=run, experiment=spec, environment=node, command=("true",))
    trainings = Trainings(processes={rank: process}, progress={rank: progress}, stand_by=lambda: None)
    try:
        return watch_attempt(task, Meeting(attempt=1, address="v100-0", port=1), trainings, SignalBox())
    finally:
        os.close(progress)


def cause(ending: Ending, run: RunDir) -> Cause:
    return cause_of(ending, read_events(run.events), None, now=dt.datetime.now(dt.UTC))


def test_a_rank_that_hangs_is_told_by_its_own_entry(run: RunDir, stopped: "subprocess.Popen[bytes]") -> None:
    ending = watched(run, 1, "training", stopped)
    (failed,) = [e for e in read_events(run.events) if e.event == "failed"]
    assert (failed.get("cause"), failed.get("rank")) == ("hung", 1)
    assert "rank 1: no progress" in failed.get("error")
    assert cause(ending, run) is Cause.HUNG


def test_rank_0_that_waits_for_a_disk_is_ended_when_another_ranks_entry_tells_of_a_hang(
    run: RunDir, stopped: "subprocess.Popen[bytes]"
) -> None:
    record_event(run, "failed", attempt=1, cause="hung", error="rank 1: no progress", rank=1)
    ending = watched(run, 0, "waiting", stopped)
    assert stopped.poll() is not None
    assert cause(ending, run) is Cause.HUNG
    assert len([e for e in read_events(run.events) if e.event == "failed"]) == 1
    (log,) = run.logs.glob("*_0.out")
    assert "hang: rank 1: no progress" in log.read_text()


def test_a_training_that_is_asked_to_stop_saves_though_the_events_cannot_be_read(
    run: RunDir, stopped: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry failed, and its training was ended within a second."""

    def fail(path: Path) -> None:
        raise RunError(f"cannot read {path}: Stale file handle")

    monkeypatch.setattr(sedd.job.watch, "read_events", fail)
    box = SignalBox()
    box.received.add(signal.SIGTERM)
    node = TaskEnvironment(executor="local", job_id="7", log_name="7", host="here", rank=0)
    task = Task(run=run, experiment=small_experiment(), environment=node, command=("true",))
    trainings = Trainings(processes={0: stopped}, progress={}, stand_by=lambda: None)
    ending = watch_attempt(task, Meeting(attempt=1, address="here", port=1), trainings, box)
    assert (ending.exit_code, ending.signals) == (-signal.SIGTERM, {signal.SIGTERM})


def test_entries_that_wait_outlast_events_that_cannot_be_read_for_a_moment(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failed read on a spare node ended the training of all others: srun kills what is left of a failed step."""
    failing = iter(range(2))

    def read(path: Path) -> Sequence[Event]:
        if next(failing, None) is not None:
            raise RunError(f"cannot read {path}: Stale file handle")
        return read_events(path)

    monkeypatch.setattr(other_ranks, "read_events", read)
    monkeypatch.setattr(other_ranks, "LOOK_S", 0.01)
    node = TaskEnvironment(executor="slurm", job_id="7", log_name="7", host="v100-2", rank=1)
    task = Task(run=run, experiment=small_experiment(), environment=node, command=("true",))
    meeting = other_ranks._await_meeting(task, SignalBox(), after=0)
    assert isinstance(meeting, Meeting)
    assert meeting.attempt == 1
    failing = iter(range(2))
    record_event(run, "completed", attempt=1)
    assert other_ranks._stand_by(task, meeting, SignalBox()) == 0
