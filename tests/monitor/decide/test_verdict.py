"""The state of a run is a function of facts."""

import dataclasses
import datetime as dt
from pathlib import Path

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.monitor.decide.state import BY_CARE, State
from sedd.monitor.decide.verdict import decide, slow_words
from sedd.monitor.read.facts import JobEvidence, Plan, RunFacts
from sedd.monitor.read.history import summarise
from sedd.rundir.events import Event
from sedd.rundir.heartbeat import Heartbeat
from sedd.rundir.layout import RunDir

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def event(name: str, ago_s: float, attempt: int = 1, **fields: object) -> Event:
    known = {"job_id": "4711", "executor": "slurm", "host": "v100-1", "pid": 1}
    return Event(
        ago(ago_s), name, attempt, (known if name in ("submitted", "attempt_started") else {}) | fields
    )


def beat(
    ago_s: float,
    phase: str = "training",
    *,
    attempt: int = 1,
    progress_ago_s: float | None = None,
    waits_for: str | None = None,
) -> Heartbeat:
    progress = ago(ago_s if progress_ago_s is None else progress_ago_s).isoformat()
    return Heartbeat(
        t=ago(ago_s).isoformat(),
        progress_t=progress,
        attempt=attempt,
        phase=phase,
        step=7,
        steps=100,
        waits_for=waits_for,
    )


def job(state: JobState, **fields: object) -> JobEvidence:
    return JobEvidence(job=JobFact(job_id="4711", state=state, **fields), seen=NOW)  # type: ignore[arg-type] # test facts


SUBMITTED = event("submitted", 3000, 0)
STARTED = event("attempt_started", 2000)
REQUEUED = event("requeued", 500, cause="preempted", step=7)
FAILED = event("failed", 400, cause="crashed", error="Traceback\n  File\nValueError: loss is nan")
UNKNOWN = JobEvidence(seen=NOW)
DOWN = JobEvidence(slurm_down=True)
HIDDEN = JobEvidence(seen=NOW, hidden=True)
STRANGER = JobEvidence(stranger=JobFact(job_id="4711", state=JobState.RUNNING), seen=NOW)
ELSEWHERE = JobEvidence(cluster="alps", seen=NOW)
FULL = "disk full: 0 B free in /scratch"
PENDING = job(JobState.PENDING, reason="Priority", starts_at=NOW + dt.timedelta(hours=2, minutes=5))

TABLE = {
    # name: (executor, events, heartbeat, evidence, state, part of why)
    "waits": ("slurm", [SUBMITTED], None, PENDING, State.QUEUED, "Priority, starts in 2h 5m"),
    "ended, says slurmdbd, long before its last heartbeat": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(3),
        job(JobState.CANCELLED, ended_at=ago(600)),
        State.RUNNING,
        "SLURM does not know job 4711",
    ),
    "killed when a controller that had forgotten it came back": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(100),
        job(JobState.CANCELLED, ended_at=ago(600)),
        State.LOST,
        "no heartbeat for 1m 40s",
    ),
    "waits, slurm down": ("slurm", [SUBMITTED], None, DOWN, State.QUEUED, "SLURM does not answer"),
    "just submitted, slurm was asked before": (
        "slurm",
        [event("submitted", 5, 0)],
        None,
        JobEvidence(seen=ago(8)),
        State.QUEUED,
        "",
    ),
    "submitted, forgotten by slurm": (
        "slurm",
        [SUBMITTED],
        None,
        UNKNOWN,
        State.LOST,
        "no longer knows job 4711",
    ),
    "made, not submitted yet": ("slurm", [], None, JobEvidence(), State.UNSUBMITTED, ""),
    "local, just submitted": ("local", [event("submitted", 5, 0)], None, JobEvidence(), State.QUEUED, ""),
    "local, never started": (
        "local",
        [SUBMITTED],
        None,
        JobEvidence(alive=False),
        State.LOST,
        "never started",
    ),
    "died before its entry": (
        "slurm",
        [SUBMITTED],
        None,
        job(JobState.FAILED),
        State.FAILED,
        "SLURM: failed",
    ),
    "cancelled by scancel in the queue": (
        "slurm",
        [SUBMITTED],
        None,
        job(JobState.CANCELLED),
        State.CANCELLED,
        "",
    ),
    "node boots": ("slurm", [SUBMITTED], None, job(JobState.CONFIGURING), State.PREFLIGHT, "node"),
    "entry starts": ("slurm", [SUBMITTED], None, job(JobState.RUNNING), State.PREFLIGHT, ""),
    "no beat yet": (
        "slurm",
        [event("attempt_started", 60)],
        None,
        job(JobState.RUNNING),
        State.PREFLIGHT,
        "",
    ),
    "beat of the attempt before": (
        "slurm",
        [STARTED, REQUEUED, event("attempt_started", 30, 2)],
        beat(3),
        job(JobState.RUNNING),
        State.PREFLIGHT,
        "",
    ),
    "node preflight": ("slurm", [STARTED], beat(3, "preflight"), job(JobState.RUNNING), State.PREFLIGHT, ""),
    "saved since its last beat": (
        "slurm",
        [STARTED, event("checkpoint", 1, step=40)],
        beat(3, "starting"),
        job(JobState.RUNNING),
        State.RUNNING,
        "",
    ),
    "starts again behind the checkpoint of the attempt before": (
        "slurm",
        [STARTED, event("checkpoint", 900, step=40), REQUEUED, event("attempt_started", 30, 2)],
        beat(3, "starting", attempt=2),
        job(JobState.RUNNING),
        State.PREFLIGHT,
        "",
    ),
    "trains": ("slurm", [STARTED], beat(3), job(JobState.RUNNING), State.RUNNING, ""),
    "validates": ("slurm", [STARTED], beat(3, "validating"), job(JobState.RUNNING), State.RUNNING, ""),
    "saves": ("slurm", [STARTED], beat(3, "checkpointing"), job(JobState.RUNNING), State.CHECKPOINTING, ""),
    "stops": ("slurm", [STARTED], beat(3, "stopping"), job(JobState.COMPLETING), State.CHECKPOINTING, ""),
    "clock of the node is ahead": ("slurm", [STARTED], beat(-30), job(JobState.RUNNING), State.RUNNING, ""),
    "silent": ("slurm", [STARTED], beat(90), job(JobState.RUNNING), State.STALLED, "no heartbeat for 1m 30s"),
    "never beat": ("slurm", [STARTED], None, job(JobState.RUNNING), State.STALLED, "no first heartbeat"),
    "hangs": (
        "slurm",
        [STARTED],
        beat(3, progress_ago_s=400),
        job(JobState.RUNNING),
        State.STALLED,
        "no step for",
    ),
    "a long checkpoint is no hang": (
        "slurm",
        [STARTED],
        beat(3, "checkpointing", progress_ago_s=400),
        job(JobState.RUNNING),
        State.CHECKPOINTING,
        "",
    ),
    "suspended": ("slurm", [STARTED], beat(90), job(JobState.SUSPENDED), State.STALLED, "suspended"),
    "beats, unknown to slurm": (
        "slurm",
        [STARTED],
        beat(3),
        UNKNOWN,
        State.RUNNING,
        "SLURM does not know job 4711",
    ),
    "beats, slurm down": ("slurm", [STARTED], beat(3), DOWN, State.RUNNING, "SLURM does not answer"),
    "silent, slurm down": ("slurm", [STARTED], beat(90), DOWN, State.STALLED, "no heartbeat"),
    "silent, unknown to slurm": ("slurm", [STARTED], beat(90), UNKNOWN, State.LOST, "no job, no heartbeat"),
    "killed, back in the queue": (
        "slurm",
        [STARTED],
        beat(90),
        PENDING,
        State.REQUEUED,
        "after a kill, Priority",
    ),
    "started since slurm was asked": (
        "slurm",
        [event("attempt_started", 5)],
        beat(1, "starting"),
        JobEvidence(job=JobFact(job_id="4711", state=JobState.PENDING), seen=ago(8)),
        State.PREFLIGHT,
        "",
    ),
    "out of memory": ("slurm", [STARTED], beat(90), job(JobState.OUT_OF_MEMORY), State.LOST, "out of memory"),
    "slurm says completed, the run does not": (
        "slurm",
        [STARTED],
        beat(90),
        job(JobState.COMPLETED),
        State.LOST,
        "no last word",
    ),
    "scancelled": ("slurm", [STARTED], beat(90), job(JobState.CANCELLED), State.CANCELLED, "scancel"),
    "preempted in sacct is not final": (
        "slurm",
        [STARTED],
        beat(3),
        job(JobState.PREEMPTED),
        State.RUNNING,
        "",
    ),
    "preempted and silent": ("slurm", [STARTED], beat(90), job(JobState.PREEMPTED), State.LOST, "preempted"),
    "requeued": (
        "slurm",
        [STARTED, REQUEUED],
        beat(500),
        PENDING,
        State.REQUEUED,
        "after a preemption, Priority",
    ),
    "requeued, ends still": (
        "slurm",
        [STARTED, REQUEUED],
        beat(500),
        job(JobState.COMPLETING),
        State.REQUEUED,
        "after a preemption",
    ),
    "requeued, forgotten": ("slurm", [STARTED, REQUEUED], beat(500), UNKNOWN, State.LOST, "no longer knows"),
    "local, trains": ("local", [STARTED], beat(3), JobEvidence(alive=True), State.RUNNING, ""),
    "local, silent": ("local", [STARTED], beat(90), JobEvidence(alive=True), State.STALLED, "no heartbeat"),
    "local, killed": (
        "local",
        [STARTED],
        beat(3),
        JobEvidence(alive=False),
        State.LOST,
        "no process, no last word",
    ),
    "local, elsewhere": ("local", [STARTED], beat(3), JobEvidence(), State.RUNNING, ""),
    "local, elsewhere, silent": ("local", [STARTED], beat(90), JobEvidence(), State.LOST, "no heartbeat"),
    "local, between attempts": (
        "local",
        [STARTED, REQUEUED],
        None,
        JobEvidence(alive=True),
        State.REQUEUED,
        "after a preemption",
    ),
    "local, next attempt never came": (
        "local",
        [STARTED, REQUEUED],
        None,
        JobEvidence(alive=False),
        State.LOST,
        "requeued but never started",
    ),
    "failed a moment ago": (
        "local",
        [STARTED, event("failed", 2)],
        None,
        JobEvidence(),
        State.RUNNING,
        "ending after",
    ),
    "failed, entry alive": (
        "local",
        [STARTED, FAILED],
        None,
        JobEvidence(alive=True),
        State.RUNNING,
        "loss is nan",
    ),
    "failed, entry gone": (
        "local",
        [STARTED, FAILED],
        None,
        JobEvidence(alive=False),
        State.FAILED,
        "ValueError",
    ),
    "gave up": (
        "slurm",
        [STARTED, FAILED, event("gave_up", 300, cause="crashed", detail="1 retry used")],
        None,
        UNKNOWN,
        State.GAVE_UP,
        "ValueError: loss is nan",
    ),
    "of another user, trains, its job hidden": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(3),
        HIDDEN,
        State.RUNNING,
        "",
    ),
    "of another user, waits, its job hidden": (
        "slurm",
        [SUBMITTED],
        None,
        HIDDEN,
        State.QUEUED,
        "SLURM hides its job from others",
    ),
    "of another user, requeued, its job hidden": (
        "slurm",
        [SUBMITTED, STARTED, REQUEUED],
        beat(600),
        HIDDEN,
        State.REQUEUED,
        "after a preemption, SLURM hides its job from others",
    ),
    "of another user, silent, its job hidden": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(1000),
        HIDDEN,
        State.STALLED,
        "no heartbeat for 16m 40s, SLURM hides its job from others",
    ),
    "waits, but another job has its id now": (
        "slurm",
        [SUBMITTED],
        None,
        STRANGER,
        State.LOST,
        "another job has id 4711 now; sedd requeue starts it again",
    ),
    "just submitted, and SLURM was asked before: the job with its id was another": (
        "slurm",
        [event("submitted", 5, 0)],
        None,
        dataclasses.replace(STRANGER, seen=ago(8)),
        State.QUEUED,
        "",
    ),
    "silent, and another job has its id now": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(90),
        STRANGER,
        State.LOST,
        "another job has id 4711 now; sedd requeue starts it again, no heartbeat for 1m 30s",
    ),
    "trains, and another job has its id now": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(3),
        STRANGER,
        State.RUNNING,
        "another job has id 4711 now",
    ),
    "waits on another cluster": ("slurm", [SUBMITTED], None, ELSEWHERE, State.QUEUED, "on cluster alps"),
    "trains on another cluster": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(3),
        ELSEWHERE,
        State.RUNNING,
        "on cluster alps",
    ),
    "silent on another cluster": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(1000),
        ELSEWHERE,
        State.STALLED,
        "no heartbeat for 16m 40s, on cluster alps",
    ),
    "silent, and its disk is full": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(1000),
        dataclasses.replace(job(JobState.RUNNING), disk_full=FULL),
        State.STALLED,
        "disk full, waiting: 0 B free in /scratch, no heartbeat for 16m 40s",
    ),
    "starts, and cannot say a word: its disk is full": (
        "slurm",
        [SUBMITTED, event("attempt_started", 90)],
        None,
        dataclasses.replace(job(JobState.RUNNING), disk_full=FULL),
        State.STALLED,
        "disk full, waiting: 0 B free in /scratch",
    ),
    "waits again, and could not say why: its disk is full": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(1000),
        dataclasses.replace(PENDING, disk_full=FULL),
        State.REQUEUED,
        "disk full, waiting: 0 B free in /scratch, Priority",
    ),
    "waits again after a full disk, which still is": (
        "slurm",
        [SUBMITTED, STARTED, event("requeued", 500, cause="disk_full", step=7)],
        beat(1000),
        dataclasses.replace(PENDING, disk_full=FULL),
        State.REQUEUED,
        "disk full, waiting: 0 B free in /scratch, Priority",
    ),
    "waits again after a full disk, which has space": (
        "slurm",
        [SUBMITTED, STARTED, event("requeued", 500, cause="disk_full", step=7)],
        beat(1000),
        PENDING,
        State.REQUEUED,
        "after a full disk or quota, Priority",
    ),
    "waits for space with its last checkpoint": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(3, "waiting", progress_ago_s=3000),
        job(JobState.RUNNING),
        State.CHECKPOINTING,
        "cannot save, waiting",
    ),
    "says what its last checkpoint waits for": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(3, "waiting", progress_ago_s=3000, waits_for="disk quota exceeded"),
        job(JobState.RUNNING),
        State.CHECKPOINTING,
        "disk quota exceeded, waiting",
    ),
    "has no permission to write": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(30),
        dataclasses.replace(job(JobState.RUNNING), disk_full="no write permission: /runs/a/b"),
        State.STALLED,
        "no write permission: /runs/a/b",
    ),
    "ended by SLURM on a full disk": (
        "slurm",
        [SUBMITTED, STARTED],
        beat(1000),
        dataclasses.replace(job(JobState.FAILED), disk_full=FULL),
        State.LOST,
        "disk full: 0 B free in /scratch, SLURM: failed, no last word",
    ),
    "dead on a full disk": (
        "local",
        [SUBMITTED, STARTED],
        beat(1000),
        JobEvidence(alive=False, disk_full=FULL),
        State.LOST,
        "disk full: 0 B free in /scratch, killed",
    ),
    "interrupted": (
        "local",
        [STARTED, event("gave_up", 300, cause="interrupted", step=7, detail="by Ctrl-C")],
        beat(300, "done"),
        JobEvidence(alive=False),
        State.INTERRUPTED,
        "by Ctrl-C",
    ),
    "at a rung": (
        "slurm",
        [STARTED, event("rung", 300, step=7), event("paused", 300, step=7), event("promoted", 200, step=7)],
        beat(300, "stopping"),
        JobEvidence(),
        State.PAUSED,
        "at step 7, for the other points of its sweep",
    ),
    "stopped at a rung": (
        "slurm",
        [STARTED, event("paused", 300, step=7), event("stopped", 200, step=7, detail="5th of 6 at step 7")],
        beat(300, "stopping"),
        JobEvidence(),
        State.STOPPED,
        "5th of 6 at step 7",
    ),
    "interrupted, and goes on": (
        "local",
        [STARTED, event("gave_up", 300, cause="interrupted", step=7), event("attempt_started", 200, 2)],
        beat(3, attempt=2),
        JobEvidence(alive=True),
        State.RUNNING,
        "",
    ),
    "completed": (
        "slurm",
        [STARTED, event("completed", 300, step=100)],
        beat(300),
        UNKNOWN,
        State.COMPLETED,
        "",
    ),
    "cancelled": (
        "slurm",
        [STARTED, event("cancelled", 300, by="ada")],
        beat(300),
        UNKNOWN,
        State.CANCELLED,
        "ada",
    ),
    "cancelled, and its job's end is noted after": (
        "slurm",
        [STARTED, event("cancelled", 300, by="ada"), event("gave_up", 290, cause="cancelled")],
        beat(300),
        UNKNOWN,
        State.CANCELLED,
        "",
    ),
    "completed before the cancellation reached it": (
        "slurm",
        [STARTED, event("cancelled", 300, by="ada"), event("completed", 299, step=100)],
        None,
        UNKNOWN,
        State.COMPLETED,
        "",
    ),
    "revived": (
        "slurm",
        [STARTED, event("cancelled", 300, by="ada"), event("submitted", 200, 1)],
        None,
        PENDING,
        State.QUEUED,
        "Priority",
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_state_follows_from_facts(case: tuple) -> None:
    executor, events, heartbeat, evidence, state, why = case
    facts = RunFacts(
        run=RunDir(Path("/runs/a/b")),
        plan=Plan(made=ago(4000), executor=executor),
        history=summarise(events),
        beat=heartbeat,
        evidence=evidence,
    )
    verdict = decide(facts, now=NOW)
    assert verdict.state is state
    assert why in verdict.why
    if not why and state is not State.CANCELLED:
        assert verdict.why == ""


def test_every_state_is_reached() -> None:
    assert {case[4] for case in TABLE.values()} | {State.UNKNOWN} == set(State)


@pytest.mark.parametrize(
    ("heartbeat", "state"),
    [
        (None, State.UNKNOWN),
        (beat(3), State.RUNNING),
        (beat(3, progress_ago_s=1000), State.STALLED),
        (beat(3000), State.UNKNOWN),
        (dataclasses.replace(beat(3000, "done"), step=100), State.COMPLETED),
    ],
)
def test_who_may_not_read_the_events_is_told_what_the_heartbeat_says(
    heartbeat: Heartbeat | None, state: State
) -> None:
    facts = RunFacts(
        run=RunDir(Path("/runs/a/b")),
        plan=Plan(made=ago(4000), executor="slurm"),
        beat=heartbeat,
        evidence=UNKNOWN,
        unreadable=("events.jsonl: Permission denied",),
    )
    verdict = decide(facts, now=NOW)
    assert verdict.state is state
    if state is State.UNKNOWN:
        assert verdict.why == "events.jsonl: Permission denied"


@pytest.mark.parametrize(
    ("events", "evidence", "state"),
    [
        ([SUBMITTED, STARTED], job(JobState.RUNNING), State.PREFLIGHT),
        ([SUBMITTED, STARTED, event("checkpoint", 900, step=7)], job(JobState.RUNNING), State.RUNNING),
        ([SUBMITTED, STARTED, event("resumed", 1900, step=7)], job(JobState.RUNNING), State.RUNNING),
        ([SUBMITTED, STARTED], DOWN, State.PREFLIGHT),
        ([SUBMITTED, STARTED], UNKNOWN, State.LOST),
        ([SUBMITTED, STARTED], PENDING, State.REQUEUED),
        ([SUBMITTED, STARTED], job(JobState.TIMEOUT), State.LOST),
    ],
)
def test_a_heartbeat_that_may_not_be_read_is_no_silence(
    events: list[Event], evidence: JobEvidence, state: State
) -> None:
    facts = RunFacts(
        run=RunDir(Path("/runs/a/b")),
        plan=Plan(made=ago(4000), executor="slurm"),
        history=summarise(events),
        evidence=evidence,
        unreadable=("heartbeat.json: Permission denied",),
    )
    assert decide(facts, now=NOW).state is state


def test_each_state_has_its_place_in_the_order_of_care() -> None:
    assert sorted(BY_CARE) == sorted(State)
    assert [s for s in BY_CARE if s.is_trouble] == list(BY_CARE[:4])


def test_only_completion_and_a_stop_by_rule_are_success_and_success_is_final() -> None:
    assert {s for s in State if s.is_success} == {State.COMPLETED, State.STOPPED}
    assert all(s.is_final for s in State if s.is_success)
    assert not State.STALLED.is_final


def test_the_rank_that_the_others_wait_for_is_named() -> None:
    slow = (
        {"rank": 3, "host": "v100-7", "over": 0.231, "since_step": 5},
        {"rank": 1, "host": "v100-2", "over": 0.2},
    )
    words = slow_words(dataclasses.replace(beat(1), slow=slow))
    assert words == "rank 3 on v100-7 is 23% slower than the median, and 1 more"
    assert slow_words(dataclasses.replace(beat(1), slow="damaged")) == ""
    assert slow_words(beat(1)) == ""
