"""The states of a run: each is classified, none by being left out."""

from sedd.monitor.decide.state import State

LIVE, ENDED, TROUBLE, LOST = (False, False), (True, False), (False, True), (True, True)
KINDS = {
    State.UNSUBMITTED: LIVE,
    State.QUEUED: LIVE,
    State.PREFLIGHT: LIVE,
    State.RUNNING: LIVE,
    State.CHECKPOINTING: LIVE,
    State.REQUEUED: LIVE,
    State.STALLED: TROUBLE,
    State.LOST: LOST,
    State.GAVE_UP: LOST,
    State.PAUSED: LIVE,
    State.STOPPED: ENDED,
    State.COMPLETED: ENDED,
    State.FAILED: LOST,
    State.CANCELLED: ENDED,
    State.INTERRUPTED: ENDED,
    State.UNKNOWN: LIVE,
}
"""State → (nothing more will happen by itself, somebody should have a look)."""


def test_every_state_is_final_or_not_and_trouble_or_not() -> None:
    assert {state: (state.is_final, state.is_trouble) for state in State} == KINDS
