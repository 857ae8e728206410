"""The attempts one by one: what is not known yet is not shown as 0."""

from collections.abc import Callable
from typing import Any

import pytest

from sedd.monitor.decide.snapshot import view_run
from sedd.monitor.decide.timeline import AttemptRow, timeline
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.monitor.show.cells import lost_text, span_text
from tests.monitor.conftest import NOW


def rows_of(run: Any, squeue: str) -> tuple[AttemptRow, ...]:
    facts = Gatherer(queue=Queue(squeue=lambda users: squeue)).gather([run.folder], now=NOW).runs[0]
    return timeline(facts, view_run(facts, now=NOW), now=NOW)


def shown(run: Any, squeue: str) -> list[str]:
    """Of each attempt its steps and its losses, as people see them."""
    return [f"{span_text(row, str)}, lost {lost_text(row, str)}" for row in rows_of(run, squeue)]


@pytest.fixture
def killed(farm: Any) -> Any:
    """Saved at step 200, seen at 2200, killed."""
    run = farm.run().submitted(ago_s=900).started(ago_s=800).checkpoint(200, ago_s=700)
    return run.beat(2200, ago_s=70, loss=2.5)


def test_a_starting_attempt_has_no_steps_and_the_one_before_no_losses_yet(
    killed: Any, squeue_line: Callable[..., str]
) -> None:
    line = squeue_line()
    assert shown(killed, line) == ["0 → 2200, lost 0"]
    killed.started(ago_s=60)
    assert shown(killed, line) == ["0 → 2200, lost ?", "…, lost 0"], (
        "the killed one's heartbeat is still there"
    )
    for phase in ("starting", "preflight"):
        killed.beat(0, ago_s=50, phase=phase)
        assert shown(killed, line) == ["0 → ?, lost ?", "…, lost 0"]
    killed.event("resumed", ago_s=40, step=200, repeats=2000)
    assert shown(killed, line) == ["0 → 2200, lost 2000", "200 → 200, lost 0"]
    killed.beat(300, ago_s=5)
    assert shown(killed, line) == ["0 → 2200, lost 2000", "200 → 300, lost 0"]


def test_a_killed_attempt_ran_until_the_last_heartbeat_that_the_next_one_found(
    killed: Any, squeue_line: Callable[..., str]
) -> None:
    killed.started(ago_s=60, beat_ago_s=70).started(ago_s=30, beat_ago_s=70)
    first, never_beat, newest = rows_of(killed, squeue_line())
    assert (first.lasted_s, never_beat.lasted_s, newest.lasted_s) == (730, None, 30)


def test_what_the_next_attempt_will_find_is_no_loss_before_it_has_looked(
    killed: Any, squeue_line: Callable[..., str]
) -> None:
    """In the queue: the node may have a copy of a later step than the newest checkpoint."""
    killed.event("requeued", ago_s=60, cause="killed", step=200)
    assert shown(killed, squeue_line(state="PENDING", nodes="")) == ["0 → 2200, lost ?"]
    killed.event("gave_up", ago_s=50, cause="killed", step=200)
    assert shown(killed, "") == ["0 → 2200, lost 2000"]


def test_an_orderly_end_has_lost_nothing(farm: Any, squeue_line: Callable[..., str]) -> None:
    run = farm.run().submitted(ago_s=900).started(ago_s=800).checkpoint(2200, ago_s=80, reason="stop")
    run.event("requeued", ago_s=79, cause="preempted", step=2200).started(ago_s=20)
    run.beat(0, ago_s=5, phase="preflight")
    assert shown(run, squeue_line()) == ["0 → 2200, lost 0", "…, lost 0"]


def test_an_attempt_that_ended_before_it_began_has_no_steps(
    killed: Any, squeue_line: Callable[..., str]
) -> None:
    killed.started(ago_s=60).event("requeued", ago_s=50, cause="node_fault", step=0)
    killed.started(ago_s=40).event("resumed", ago_s=30, step=200, repeats=2000).beat(210, ago_s=3)
    assert shown(killed, squeue_line()) == ["0 → 2200, lost 2000", "–, lost 0", "200 → 210, lost 0"]


def test_without_a_checkpoint_the_next_attempt_starts_at_0_once_it_works(
    farm: Any, squeue_line: Callable[..., str]
) -> None:
    run = farm.run().submitted(ago_s=900).started(ago_s=800).beat(0, ago_s=790, phase="preflight")
    assert shown(run, squeue_line()) == ["0 → 0, lost 0"]
    run.started(ago_s=60).beat(0, ago_s=50, phase="preflight")
    assert shown(run, squeue_line()) == ["0 → ?, lost ?", "…, lost 0"]
    run.beat(7, ago_s=3)
    assert shown(run, squeue_line()) == ["0 → ?, lost 0", "0 → 7, lost 0"]
