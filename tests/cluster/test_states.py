import pytest

from sedd.cluster.states import JobState, parse_state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("RUNNING", JobState.RUNNING),
        ("R", JobState.RUNNING),
        ("CANCELLED by 1000", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("CA", JobState.CANCELLED),
        ("RUNNING,SIGNALING", JobState.RUNNING),
        ("COMPLETED", JobState.COMPLETED),
        ("TO", JobState.TIMEOUT),
        ("OUT_OF_MEMORY", JobState.OUT_OF_MEMORY),
        ("OOM", JobState.OUT_OF_MEMORY),
        ("BOOT_FAIL", JobState.NODE_FAIL),
        ("SPECIAL_EXIT", JobState.REQUEUED),
        ("RQ", JobState.REQUEUED),
        ("PREEMPTED", JobState.PREEMPTED),
    ],
)
def test_long_short_and_decorated_names(text: str, state: JobState) -> None:
    assert parse_state(text) is state


@pytest.mark.parametrize("text", ["", "SOMETHING_OF_SLURM_30", "1"])
def test_a_word_of_a_later_slurm_is_unknown_and_no_error(text: str) -> None:
    assert parse_state(text) is JobState.UNKNOWN


def test_preempted_and_requeued_are_not_final() -> None:
    assert not JobState.PREEMPTED.is_final
    assert not JobState.REQUEUED.is_final
    assert JobState.REQUEUED.is_waiting


def test_no_state_is_waiting_holding_nodes_and_final_at_once() -> None:
    for state in JobState:
        assert [state.is_waiting, state.has_nodes, state.is_final].count(True) <= 1


WAITING, ON_NODES, ENDED, NEITHER = "waiting", "on nodes", "ended", "neither"
KINDS = {
    JobState.PENDING: WAITING,
    JobState.REQUEUED: WAITING,
    JobState.CONFIGURING: ON_NODES,
    JobState.RUNNING: ON_NODES,
    JobState.SUSPENDED: ON_NODES,
    JobState.COMPLETING: ON_NODES,
    JobState.PREEMPTED: NEITHER,  # squeue's end of a job, sacct's end of an attempt
    JobState.COMPLETED: ENDED,
    JobState.FAILED: ENDED,
    JobState.CANCELLED: ENDED,
    JobState.TIMEOUT: ENDED,
    JobState.NODE_FAIL: ENDED,
    JobState.OUT_OF_MEMORY: ENDED,
    JobState.UNKNOWN: NEITHER,
}
"""What slurm.schedmd.com/squeue.html says of each; a state that is missing here would count as alive."""


def test_every_state_is_of_one_kind() -> None:
    assert set(KINDS) == set(JobState)
    for state, kind in KINDS.items():
        assert (state.is_waiting, state.has_nodes, state.is_final) == (
            kind == WAITING,
            kind == ON_NODES,
            kind == ENDED,
        ), state
