"""What follows from the end of an attempt, as a table: facts in, decision out."""

import datetime as dt
import signal

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.job.causes import Ending, SlurmFacts
from sedd.job.decision import Decision, EndingFacts, decide
from sedd.job.final_events import has_ended
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event
from sedd.rundir.exits import Exit
from sedd.spec.retry import RetrySpec

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
STARTED = Event(NOW, "attempt_started", 1, {"job_id": "7", "host": "a", "pid": 1})
SAVED = Event(NOW, "checkpoint", 1, {"step": 20, "reason": "stop", "seconds": 1})
LIMIT = JobFact(
    job_id="7", state=JobState.RUNNING, starts_at=NOW - dt.timedelta(seconds=110), time_limit_s=120
)
PREEMPTED = JobFact(job_id="7", state=JobState.RUNNING, preempted_at=NOW)


def decided(
    exit_code: int | None,
    *events: Event,
    job: JobFact | None = None,
    signals: set[int] = frozenset(),  # type: ignore[assignment] # read only
    error: str | None = None,
    executor: str = "slurm",
    has_entries: bool = True,
    spare_nodes: int = 0,
    copied_step: int = 0,
    policy: RetrySpec | None = None,
    nodes: tuple[str, ...] = (),
    ranks_per_node: int = 1,
) -> Decision:
    slurm = SlurmFacts(job=job, restarts=0, lead_s=30) if executor == "slurm" else None
    ending = Ending(exit_code=exit_code, signals=frozenset(signals), time_left_s=None, rank=0, error=error)
    facts = EndingFacts(
        attempt=1,
        ending=ending,
        events=(STARTED, *events),
        job_id="7",
        slurm=slurm,
        now=NOW,
        has_entries=has_entries,
        spare_nodes=spare_nodes,
        host="a",
        copied_step=copied_step,
        nodes=nodes,
        ranks_per_node=ranks_per_node,
    )
    return decide(facts, policy or RetrySpec())


def test_a_training_that_hangs_after_its_save_goes_on_in_another_attempt() -> None:
    for job, cause in ((LIMIT, Cause.TIME_LIMIT), (PREEMPTED, Cause.PREEMPTED)):
        decision = decided(None, SAVED, job=job, signals={signal.SIGUSR2})
        assert (decision.cause, decision.event) == (cause, "requeued")
        assert decision.next is not None
        assert decision.failure is None
        assert decision.fields["step"] == 20
        assert "killed" in decision.fields["detail"]


def test_a_step_longer_than_the_walltime_reaches_the_stop_for_lack_of_progress() -> None:
    events: list[Event] = []
    for number in range(1, 10):
        started = Event(NOW, "attempt_started", number, {"job_id": "7", "host": "a"})
        facts = EndingFacts(
            attempt=number,
            ending=Ending(exit_code=None, signals=frozenset({signal.SIGUSR2}), time_left_s=None, rank=0),
            events=(*events, started),
            job_id="7",
            slurm=SlurmFacts(job=LIMIT, restarts=number - 1, lead_s=30),
            now=NOW,
        )
        decision = decide(facts, RetrySpec(without_progress=3))
        assert decision.event is not None
        events += [started, Event(NOW, decision.event, number, decision.fields)]
        if decision.next is None:
            break
    assert [e.event for e in events if e.event != "attempt_started"] == 3 * ["requeued"] + ["gave_up"]
    assert "saved no new step" in events[-1].get("detail")
    assert not has_ended(events, 1), "the next attempt gives its processes time to end"


@pytest.mark.parametrize(
    ("exit_code", "job", "signals", "cause", "event"),
    [
        (Exit.COMPLETED, None, set(), Cause.COMPLETED, "completed"),
        (Exit.STOPPED, PREEMPTED, {signal.SIGTERM}, Cause.PREEMPTED, "requeued"),
        (Exit.STOPPED, LIMIT, {signal.SIGUSR2}, Cause.TIME_LIMIT, "requeued"),
        (Exit.NODE_FAULT, None, set(), Cause.NODE_FAULT, "requeued"),
        (Exit.DISK_FULL, None, set(), Cause.DISK_FULL, "requeued"),
        (-signal.SIGKILL, None, set(), Cause.KILLED, "requeued"),
        (1, None, set(), Cause.CRASHED, "requeued"),
        (Exit.MISFIT, None, set(), Cause.CRASHED, "gave_up"),
        (Exit.MISFIT, PREEMPTED, {signal.SIGTERM}, Cause.PREEMPTED, "requeued"),
        (None, JobFact(job_id="7", state=JobState.CANCELLED), {signal.SIGTERM}, Cause.CANCELLED, "cancelled"),
    ],
)
def test_each_end_has_its_cause_and_its_event(
    exit_code: int | None, job: JobFact | None, signals: set[int], cause: Cause, event: str
) -> None:
    decision = decided(exit_code, job=job, signals=signals)
    assert (decision.cause, decision.event) == (cause, event)
    assert (decision.next is not None) == (event == "requeued")


def test_an_attempt_that_ends_before_it_resumes_is_at_the_step_that_the_one_before_has_saved() -> None:
    """It was said to have given up at step 0."""
    again = Event(NOW, "attempt_started", 2, {"job_id": "7", "host": "a", "pid": 2})
    killed = Event(NOW, "requeued", 1, {"cause": "killed", "step": 20})
    assert decided(Exit.MISFIT, SAVED, killed, again).fields["step"] == 20
    by_user = Event(NOW, "submitted", 1, {"job_id": "8"})
    other = Event(NOW, "attempt_started", 2, {"job_id": "8", "host": "a", "pid": 2})
    assert decided(Exit.MISFIT, SAVED, killed, by_user, other).fields["step"] == 20
    resumed = Event(NOW, "resumed", 2, {"step": 10})
    assert decided(Exit.MISFIT, SAVED, killed, again, resumed).fields["step"] == 10, "the newest was damaged"
    on_node = Event(NOW, "resumed", 2, {"step": 30, "tier": "node"})
    third = Event(NOW, "attempt_started", 3, {"job_id": "7", "host": "b", "pid": 3})
    assert decided(Exit.MISFIT, SAVED, killed, again, on_node, third).fields["step"] == 20


def test_what_does_not_fit_one_rank_ends_the_run_whatever_the_others_exit_with() -> None:
    fields = {"cause": "crashed", "error": "node preflight failed: labels: …", "rank": 3, "misfit": True}
    decision = decided(Exit.PEER_LOST, Event(NOW, "failed", 1, fields))
    assert (decision.cause, decision.event, decision.next) == (Cause.CRASHED, "gave_up", None)
    lost = Event(NOW, "failed", 1, {"cause": "node_fault", "error": "ECC error", "rank": 2, "host": "n2"})
    assert decided(Exit.PEER_LOST, Event(NOW, "failed", 1, fields), lost).event == "requeued"


def test_sigkill_is_named_only_after_signal_9() -> None:
    killed, early = decided(-signal.SIGKILL), decided(1, error="exit code 1 before its first line: no conda")
    assert killed.failure is not None
    assert "SIGKILL" in killed.failure["error"]
    assert early.failure is not None
    assert early.failure["error"] == "exit code 1 before its first line: no conda"
    assert early.cause is Cause.CRASHED


def test_what_a_rank_has_recorded_itself_is_not_recorded_again() -> None:
    failed = Event(NOW, "failed", 1, {"cause": "crashed", "error": "ValueError", "rank": 0})
    assert decided(1, failed).failure is None
    other = Event(NOW, "failed", 1, {"cause": "crashed", "error": "ValueError", "rank": 3})
    assert decided(1, other).failure is not None


def test_a_cancellation_that_is_recorded_is_not_recorded_again() -> None:
    cancelled = (Event(NOW, "submitted", 0, {}), Event(NOW, "cancelled", 1, {"by": "ada"}))
    assert decided(Exit.STOPPED, *cancelled, signals={signal.SIGTERM}).event is None


RUNNING = JobFact(
    job_id="7", state=JobState.RUNNING, starts_at=NOW - dt.timedelta(seconds=600), time_limit_s=86400
)
ENDS_SOON = JobFact(
    job_id="7", state=JobState.RUNNING, starts_at=NOW - dt.timedelta(seconds=600), time_limit_s=700
)
HUNG = Event(NOW, "failed", 1, {"cause": "hung", "error": "no progress for 61 s", "rank": 0})
LOST_PEER = Event(NOW, "failed", 1, {"cause": "killed", "lost_peer": True, "rank": 0})


@pytest.mark.parametrize(
    ("exit_code", "events", "cause"),
    [
        (-signal.SIGKILL, (), Cause.KILLED),
        (137, (), Cause.KILLED),
        (Exit.PEER_LOST, (LOST_PEER,), Cause.KILLED),
        (1, (), Cause.CRASHED),
        (-signal.SIGSEGV, (), Cause.CRASHED),
        (-signal.SIGKILL, (HUNG,), Cause.HUNG),
        (-signal.SIGKILL, (LOST_PEER, HUNG), Cause.HUNG),
    ],
)
def test_after_a_kill_a_crash_or_a_hang_the_next_attempt_starts_in_the_job(
    exit_code: int, events: tuple[Event, ...], cause: Cause
) -> None:
    here = decided(exit_code, *events, job=RUNNING)
    assert (here.cause, here.event, here.starts_in_job) == (cause, "requeued", True)
    assert here.fields["in_job"] is True
    elsewhere = {
        "the time limit is near": decided(exit_code, *events, job=ENDS_SOON),
        "SLURM does not answer": decided(exit_code, *events, job=None),
        "it was preempted": decided(exit_code, *events, job=PREEMPTED),
        "asked to stop": decided(exit_code, *events, job=RUNNING, signals={signal.SIGTERM}),
        "warned": decided(exit_code, *events, job=RUNNING, signals={signal.SIGUSR2}),
        "its entries are gone": decided(exit_code, *events, job=RUNNING, has_entries=False),
    }
    for why, decision in elsewhere.items():
        assert not decision.starts_in_job, why
        assert "in_job" not in decision.fields, why
    assert decided(exit_code, *events, executor="local").starts_in_job


@pytest.mark.parametrize("code", [Exit.NODE_FAULT, Exit.DISK_FULL, Exit.STOPPED])
def test_after_other_ends_slurm_is_asked_for_the_next_attempt(code: int) -> None:
    assert not decided(code, job=RUNNING).starts_in_job
    assert decided(code, job=RUNNING).next is not None


def test_no_attempt_starts_in_a_job_whose_training_not_even_sigkill_ends() -> None:
    stuck = decided(None, HUNG, job=RUNNING)
    assert (stuck.cause, stuck.event, stuck.starts_in_job) == (Cause.HUNG, "requeued", False)


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("exit_code", [None, 0, 1, -signal.SIGKILL])
def test_every_cause_is_decided_on(cause: Cause, exit_code: int | None) -> None:
    failed = Event(NOW, "failed", 1, {"cause": cause, "rank": 0})
    for job in (None, RUNNING, ENDS_SOON, PREEMPTED):
        decision = decided(exit_code, failed, job=job)
        assert decision.next is not None or not decision.starts_in_job


def test_what_ended_for_another_ranks_crash_is_no_kill() -> None:
    crashed = Event(NOW, "failed", 1, {"cause": "crashed", "error": "ValueError", "rank": 2})
    ended_for_it = decided(Exit.PEER_LOST, crashed, job=RUNNING)
    assert (ended_for_it.cause, ended_for_it.failure) == (Cause.CRASHED, None)


def test_a_faulty_node_is_left_out_where_a_spare_one_can_take_its_place() -> None:
    faulty = Event(NOW, "failed", 1, {"cause": "node_fault", "host": "b", "rank": 1})
    left_out = decided(Exit.NODE_FAULT, faulty, job=RUNNING, spare_nodes=1)
    assert left_out.starts_in_job
    assert left_out.left_out == {"b"}
    also = Event(NOW, "failed", 1, {"cause": "node_fault", "host": "c", "rank": 2})
    assert not decided(Exit.NODE_FAULT, faulty, also, job=RUNNING, spare_nodes=1).starts_in_job
    assert decided(Exit.NODE_FAULT, faulty, also, job=RUNNING, spare_nodes=2).left_out == {"b", "c"}
    own = Event(NOW, "failed", 1, {"cause": "node_fault", "host": "a", "rank": 0})
    assert decided(Exit.NODE_FAULT, own, job=RUNNING, spare_nodes=1).left_out == {"a"}
    assert not decided(Exit.NODE_FAULT, faulty, job=RUNNING).starts_in_job, "without spare nodes: requeued"


NODES = ("a", "b", "c", "d")


def waited(host: str, *ranks: int) -> Event:
    """A rank on this node has waited in vain for others to come to where all meet."""
    fields = {"cause": "killed", "lost_peer": True, "absent": ranks, "host": host, "rank": NODES.index(host)}
    return Event(NOW, "failed", 1, fields)


def cut_off(host: str) -> Event:
    """A rank on this node did not get to where all meet, on the node of rank 0, nor an answer."""
    return Event(NOW, "failed", 1, {**waited(host, 0).fields, "cause": "node_fault", "lost_peer": False})


@pytest.mark.parametrize(
    ("reports", "at_fault"),
    [
        ([waited("a", 3), waited("b", 3), waited("c", 3)], {"d"}),
        ([waited("a", 3)], {"d"}),  # the others were ended for it before they gave up
        ([waited("b", 0), waited("c", 0), waited("d", 0)], {"a"}),  # rank 0 has not opened the meeting
        ([waited("a", 1, 3), waited("c", 1, 3)], {"b", "d"}),
        ([waited("a", 3), waited("b", 3), waited("c", 3), cut_off("d")], {"d"}),
        ([waited("a", 1, 2, 3), cut_off("b"), cut_off("c"), cut_off("d")], {"a"}),
        ([waited("a", 1, 2, 3)], {"a"}),
        ([cut_off("d")], {"a", "d"}),  # nobody can tell
    ],
)
def test_the_node_that_the_others_have_waited_for_is_at_fault_not_those_that_waited(
    reports: list[Event], at_fault: set[str]
) -> None:
    decision = decided(Exit.PEER_LOST, *reports, job=RUNNING, nodes=NODES, spare_nodes=2)
    assert decision.cause is Cause.NODE_FAULT
    assert decision.left_out == at_fault
    assert {each["host"] for each in decision.missed} == at_fault
    assert decision.failure is None, "why it ended is recorded"
    elsewhere = decided(Exit.PEER_LOST, *reports, job=RUNNING, nodes=NODES)
    assert elsewhere.next is not None
    assert {*elsewhere.next.avoid_hosts} == at_fault


def test_all_nodes_that_were_at_fault_in_an_attempt_are_avoided_and_not_the_one_that_led_it() -> None:
    faults = [Event(NOW, "failed", 1, {"cause": "node_fault", "host": host, "rank": 1}) for host in "bc"]
    decision = decided(Exit.NODE_FAULT, *faults, job=RUNNING)
    assert decision.next is not None
    assert decision.next.avoid_hosts == ("b", "c")
    unnamed = decided(Exit.NODE_FAULT, job=RUNNING).next
    assert unnamed is not None
    assert unnamed.avoid_hosts == ("a",)


def test_two_ranks_of_a_node_are_missed_with_it() -> None:
    fields = {**waited("a", 2, 3).fields}
    report = Event(NOW, "failed", 1, fields)
    decision = decided(Exit.PEER_LOST, report, job=RUNNING, nodes=("a", "b"), ranks_per_node=2, spare_nodes=1)
    assert (decision.left_out, decision.missed[0]["rank"]) == ({"b"}, 2)


def test_where_the_nodes_are_not_known_nobody_is_blamed() -> None:
    decision = decided(Exit.PEER_LOST, waited("a", 3), job=RUNNING)
    assert (decision.cause, decision.missed) == (Cause.KILLED, ())


def test_a_node_that_was_left_out_stays_so_in_its_job() -> None:
    again = Event(NOW, "attempt_started", 1, {"job_id": "7", "host": "a", "left_out": {"b": 1}})
    assert decided(-signal.SIGKILL, again, job=RUNNING, spare_nodes=1).left_out == {"b"}


def test_a_copy_on_the_node_counts_only_where_the_next_attempt_can_find_it() -> None:
    again = Event(NOW, "attempt_started", 2, {"job_id": "7", "host": "a", "pid": 1})
    policy = RetrySpec(without_progress=1)
    killed = decided(-signal.SIGKILL, again, job=RUNNING, copied_step=5, policy=policy)
    assert killed.starts_in_job
    preempted = decided(
        -signal.SIGKILL, again, job=PREEMPTED, signals={signal.SIGTERM}, copied_step=5, policy=policy
    )
    assert preempted.event == "gave_up"
    assert decided(-signal.SIGKILL, again, job=RUNNING, policy=policy).event == "gave_up"
    for faulty, event in (("b", "requeued"), ("a", "gave_up")):  # rank 0 and its copies are on a
        fault = Event(NOW, "failed", 2, {"cause": "node_fault", "host": faulty})
        ended = decided(
            Exit.NODE_FAULT, again, fault, job=RUNNING, copied_step=5, spare_nodes=1, policy=policy
        )
        assert ended.event == event
