"""Time left, at risk and well used."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.monitor.decide.estimate import eta_s
from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.read.facts import JobEvidence, RunFacts
from sedd.monitor.read.folder import Folder


def facts_of(run: Any) -> RunFacts:
    facts = Folder(run.folder).read()
    assert facts is not None
    return facts


@pytest.fixture
def view_of(snapshot_of: Callable[..., Snapshot]) -> Callable[[Any], RunView]:
    return lambda run: snapshot_of(run, alive=True).runs[0]


def test_eta_of_a_run_that_was_never_interrupted_is_its_heartbeats(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=7200).started(ago_s=3600).checkpoint(10, ago_s=60)
    assert view_of(run.beat(20, ago_s=4, eta_s=1000.0)).eta_s == 996


def test_eta_is_stretched_by_what_interruptions_cost(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=9000).started(ago_s=8000).checkpoint(100, ago_s=7000)
    run.event("requeued", ago_s=6990, cause="preempted", step=100)
    run.started(ago_s=1010).resumed(100, ago_s=1000).checkpoint(200, ago_s=100)
    # 8000 s since the first start, 1000 + 1000 of them productive: everything takes four times as long.
    assert view_of(run.beat(210, ago_s=0, eta_s=500.0)).eta_s == pytest.approx(2000)


def test_eta_waits_in_the_queue_once_for_each_time_limit_that_still_comes(
    farm: Any, now: dt.datetime
) -> None:
    run = farm.run().submitted(ago_s=1900).started(ago_s=1000).checkpoint(100, ago_s=60)
    run.beat(110, ago_s=0, eta_s=9000.0)

    def eta(limit_s: int | None) -> float | None:
        job = JobFact(job_id="1", state=JobState.RUNNING, time_limit_s=limit_s)
        plain = facts_of(run)
        evidence = JobEvidence(job=job, seen=now)
        return eta_s(dataclasses.replace(plain, evidence=evidence), now=now, is_live=True)

    assert eta(None) == eta(10_000) == 9000
    # 3000 s left here, then 4000 s, then the last 2000 s: two waits of 900 s each.
    assert eta(4_000) == 9000 + 2 * 900


def test_at_risk_is_the_time_since_the_newest_checkpoint_of_this_attempt(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=9000).started(ago_s=8000).checkpoint(100, ago_s=7000)
    assert view_of(run.beat(150, ago_s=0)).at_risk_s == 7000
    assert view_of(run.beat(150, ago_s=0)).at_risk_steps == 50
    run.event("requeued", ago_s=6990, cause="preempted", step=100).started(ago_s=310).resumed(100, ago_s=300)
    assert view_of(run.beat(120, ago_s=0)).at_risk_s == 300
    assert view_of(run.beat(120, ago_s=0)).at_risk_steps == 20


def test_a_kill_loses_what_came_after_the_copy_on_the_node_and_its_loss_what_came_after_the_checkpoint(
    farm: Any, view_of: Any
) -> None:
    run = farm.run(executor="local").submitted(ago_s=9000).started(ago_s=8000).checkpoint(100, ago_s=7000)
    view = view_of(run.beat(150, ago_s=0, local_step=147, local_t=run.at(6).isoformat()))
    assert (view.at_risk_steps, view.at_risk_s) == (50, 7000)
    assert (view.restart_steps, view.restart_s) == (3, 6)


def test_without_a_later_copy_a_kill_loses_as_much_as_the_loss_of_the_node(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=9000).started(ago_s=8000).checkpoint(100, ago_s=7000)
    view = view_of(run.beat(150, ago_s=0, local_step=90, local_t=run.at(7500).isoformat()))
    assert (view.restart_steps, view.restart_s) == (view.at_risk_steps, view.at_risk_s) == (50, 7000)


@pytest.mark.parametrize("saved", [None, 40])
def test_a_copy_that_an_attempt_resumed_from_is_a_copy_and_no_checkpoint(
    farm: Any, view_of: Any, saved: int | None
) -> None:
    run = farm.run(executor="local").submitted(ago_s=1100).started(ago_s=1000)
    if saved:
        run.checkpoint(saved, ago_s=800)
    run.event("failed", ago_s=320, error="killed").event("requeued", ago_s=310, in_job=True)
    run.started(ago_s=300).resumed(90, ago_s=200, tier="node")
    view = view_of(run.beat(111, ago_s=0))  # which has made no copy of its own yet
    assert (view.checkpoint_step, view.local_step) == (saved, 90)
    assert (view.restart_steps, view.restart_s) == (21, 200)
    # What the first attempt trained since its checkpoint, or its start, until it failed; and all since.
    before_s = 800 - 320 if saved else 1000 - 320
    assert (view.at_risk_steps, view.at_risk_s) == (111 - (saved or 0), before_s + 200)
    assert view.ettr == pytest.approx((1000 - 320 + 200) / 1100)


def test_a_copy_on_the_node_of_an_earlier_attempt_is_none_of_this_one(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=1000).started(ago_s=900).checkpoint(40, ago_s=800)
    run.started(ago_s=700).resumed(60, ago_s=600, tier="node").event("requeued", ago_s=400, cause="moved")
    run.started(ago_s=300).resumed(40, ago_s=200)
    view = view_of(run.beat(50, ago_s=0))
    assert (view.checkpoint_step, view.local_step, view.at_risk_s, view.restart_s) == (40, None, 200, 200)


def test_a_checkpoint_that_only_the_heartbeat_knows_counts(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=9000).started(ago_s=8000)
    view = view_of(run.beat(150, ago_s=0, checkpoint_step=140, checkpoint_t=run.at(30).isoformat()))
    assert (view.checkpoint_step, view.at_risk_s) == (140, 30)


def test_ettr_counts_queue_and_restarts_against_the_run(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=1000).started(ago_s=500).checkpoint(100, ago_s=250)
    run.event("completed", ago_s=0, step=100)
    assert view_of(run).ettr == pytest.approx(0.25)


def test_time_between_an_end_and_an_extension_counts_neither_in_ettr_nor_in_eta(
    farm: Any, view_of: Any
) -> None:
    day = 86_400
    run = farm.run(executor="local").submitted(ago_s=day + 1000).started(ago_s=day + 1000)
    run.checkpoint(100, ago_s=day + 100).event("completed", ago_s=day, step=100)
    run.event("submitted", ago_s=1000).started(ago_s=1000).resumed(100, ago_s=900).checkpoint(200, ago_s=0)
    # 900 + 900 of the 2000 s in which somebody wanted it.
    view = view_of(run.beat(200, ago_s=0, eta_s=900.0))
    assert view.ettr == pytest.approx(0.9)
    assert view.eta_s == pytest.approx(1000)


def test_time_between_an_interruption_and_sedd_train_counts_neither_in_ettr_nor_in_eta(
    farm: Any, view_of: Any
) -> None:
    day, here = 86_400, {"executor": "foreground"}
    run = (
        farm.run(executor="local")
        .event("submitted", ago_s=day + 1000, **here)
        .started(ago_s=day + 1000, **here)
    )
    run.checkpoint(100, ago_s=day + 100).event("gave_up", ago_s=day, cause="interrupted", step=100)
    run.started(ago_s=1000, **here).resumed(100, ago_s=900).checkpoint(200, ago_s=0)
    view = view_of(run.beat(200, ago_s=0, eta_s=900.0))
    assert view.ettr == pytest.approx(0.9)
    assert view.eta_s == pytest.approx(1000)


def test_a_killed_attempt_rests_from_its_last_event_and_not_from_an_end_before_it(
    farm: Any, view_of: Any
) -> None:
    run = farm.run(executor="local").submitted(ago_s=5000).started(ago_s=5000).resumed(0, ago_s=4900)
    run.checkpoint(100, ago_s=4500).event("gave_up", ago_s=4500, cause="interrupted", step=100)
    run.event("submitted", ago_s=4000).started(ago_s=4000).resumed(100, ago_s=3000).checkpoint(
        200, ago_s=2500
    )
    # Killed, and revived 1500 s later; submitted once more while it was queued.
    run.event("submitted", ago_s=1000).event("submitted", ago_s=900).started(ago_s=500).resumed(
        200, ago_s=400
    )
    run.checkpoint(300, ago_s=0).event("completed", ago_s=0, step=300)
    # 500 s of the first attempt, 1500 s of the second, 1000 s of the third since somebody wanted it.
    assert view_of(run).ettr == pytest.approx((400 + 500 + 400) / (500 + 1500 + 1000))


def test_what_a_killed_attempt_trained_and_lost_counts_against_the_run_also_when_it_was_revived(
    farm: Any, view_of: Any
) -> None:
    run = farm.run(executor="local").submitted(ago_s=9000).started(ago_s=9000).resumed(0, ago_s=9000)
    run.checkpoint(100, ago_s=8500).beat(200, ago_s=8000)
    run.started(ago_s=500, executor="foreground", beat_ago_s=8000).resumed(100, ago_s=500)
    run.checkpoint(200, ago_s=0).event("completed", ago_s=0, step=200)
    assert view_of(run).ettr == pytest.approx((500 + 500) / (1000 + 500))


def test_ettr_of_a_run_that_ended_stays(
    farm: Any, snapshot_of: Callable[..., Snapshot], now: dt.datetime
) -> None:
    run = farm.run(executor="local").submitted(ago_s=1000).started(ago_s=500).checkpoint(100, ago_s=250)
    run.event("completed", ago_s=0, step=100)
    later = snapshot_of(run, now=now + dt.timedelta(days=3)).runs[0]
    assert later.ettr == pytest.approx(0.25)


def test_ettr_of_a_killed_run_counts_to_its_last_sign_of_life(
    farm: Any, snapshot_of: Callable[..., Snapshot], now: dt.datetime
) -> None:
    run = farm.run(executor="local").submitted(ago_s=1000).started(ago_s=800).resumed(0, ago_s=600)
    run.checkpoint(100, ago_s=400).beat(110, ago_s=200)
    view = snapshot_of(run, now=now + dt.timedelta(days=3), alive=False).runs[0]
    assert view.state is State.LOST
    assert view.ettr == pytest.approx(200 / 800)


def test_a_new_attempt_keeps_the_runs_step_until_it_says_where_it_resumes(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=900).started(ago_s=800).checkpoint(100, ago_s=700)
    run.event("requeued", ago_s=600, cause="preempted", step=100).started(ago_s=10)
    assert view_of(run.beat(0, phase="starting", ago_s=1)).step == 100


def test_a_run_that_stands_still_trains_nothing_and_has_no_end(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=4000).started(ago_s=4000).resumed(10, ago_s=4000)
    run.checkpoint(100, ago_s=3000)
    hung = run.beat(150, ago_s=1, progress_t=run.at(2000).isoformat(), eta_s=500.0)
    view = view_of(hung)
    assert view.state is State.STALLED
    assert (view.eta_s, view.at_risk_s, view.at_risk_steps) == (None, 1000, 50)
    assert view.ettr == pytest.approx(2000 / 4000)


def test_step_never_falls_behind_a_checkpoint_that_a_slower_heartbeat_has_not_seen(
    farm: Any, view_of: Any
) -> None:
    run = farm.run(executor="local").submitted(ago_s=100).started(ago_s=90).checkpoint(60, ago_s=1)
    view = view_of(run.beat(50, ago_s=4))
    assert (view.step, view.at_risk_steps) == (60, 0)


def test_step_never_falls_behind_the_checkpoint_it_resumed_from(farm: Any, view_of: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=1000).started(ago_s=500).resumed(400, ago_s=490)
    assert view_of(run.beat(0, phase="starting")).step == 400


def test_a_run_under_torchrun_shows_the_gpus_that_train_it(
    farm: Any, view_of: Callable[[Any], RunView]
) -> None:
    """Its manifest has the spec's number: torchrun starts as many processes as its user wants."""
    run = farm.run(executor="local", gpus=1).submitted(ago_s=100)
    assert view_of(run).gpus == 1
    for gpus in (4, 0):
        run.event("attempt_started", ago_s=90, executor="foreground", host="here", pid=1, gpus=gpus)
        assert view_of(run).gpus == gpus
