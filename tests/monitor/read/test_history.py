"""Events in brief."""

import datetime as dt
from typing import Any

import pytest

from sedd.monitor.read.history import History, lost_steps, queued_s, summarise
from sedd.rundir.attempts import Cause
from sedd.rundir.events import read_events


def history(run: Any) -> History:
    return summarise(read_events(run.folder.events))


def interrupted(farm: Any) -> Any:
    run = farm.run().submitted(ago_s=1000, job_id="9").started(ago_s=900, job_id="9")
    run.checkpoint(100, ago_s=700).checkpoint(200, ago_s=600).event(
        "requeued", ago_s=590, cause="preempted", step=200
    )
    return run.started(ago_s=400, job_id="9").resumed(200, ago_s=390).checkpoint(300, ago_s=300)


def test_nothing_happened_yet(farm: Any) -> None:
    assert history(farm.run()) == History()


def test_causes_are_counted(farm: Any) -> None:
    run = interrupted(farm).event("requeued", ago_s=100, cause="time_limit", step=300).started(ago_s=50)
    run.started(ago_s=10)
    assert history(run).causes == {Cause.PREEMPTED: 1, Cause.TIME_LIMIT: 1, Cause.KILLED: 1}


def test_productive_time_is_what_was_kept(farm: Any) -> None:
    # 900 → 600 (no `resumed` event: from its start), 390 → 300.
    assert history(interrupted(farm)).productive_s == 300 + 90


def test_time_in_the_queue(farm: Any) -> None:
    told = history(interrupted(farm))
    assert queued_s(told) == [100, 190]


def test_a_run_that_had_ended_queues_from_its_new_submission_on(farm: Any) -> None:
    run = farm.run().event("submitted", ago_s=910).started(ago_s=900).event("completed", ago_s=800, step=10)
    told = history(run.event("submitted", ago_s=100).started(ago_s=70))
    assert queued_s(told) == [10, 30]


@pytest.mark.parametrize("end", ["gave_up", "requeued", None])
def test_a_run_that_its_user_continues_in_the_foreground_has_not_queued(farm: Any, end: str | None) -> None:
    """However it had ended: interrupted, given back to SLURM by a job that is gone, or killed without a word."""
    run = farm.run().event("submitted", ago_s=902).started(ago_s=900, executor="foreground")
    run.checkpoint(100, ago_s=700)
    if end:
        run.event(end, ago_s=700, cause="interrupted", step=100)
    told = history(run.started(ago_s=100, executor="foreground").resumed(100, ago_s=90))
    assert queued_s(told) == [None, None]
    assert told.rested_s == 600


def test_a_run_that_was_submitted_and_is_continued_in_the_foreground_instead_has_not_queued(
    farm: Any,
) -> None:
    """Its second job is gone, nobody knows since when."""
    run = (
        farm.run()
        .event("submitted", ago_s=910)
        .started(ago_s=900)
        .event("gave_up", ago_s=700, cause="crashed")
    )
    told = history(run.event("submitted", ago_s=500).started(ago_s=100, executor="foreground"))
    assert queued_s(told) == [10, None]
    assert told.rested_s == 600


def test_an_attempt_that_starts_in_the_job_of_the_one_before_has_not_queued(farm: Any) -> None:
    run = farm.run().started(ago_s=100).event("requeued", ago_s=50, cause="killed", step=3, in_job=True)
    told = history(run.event("ready", ago_s=45, task=1, node=0).started(ago_s=40))
    assert queued_s(told)[1] is None
    assert told.open_attempt is told.attempts[1]


def test_steps_of_a_damaged_checkpoint_are_lost(farm: Any) -> None:
    run = interrupted(farm).event("requeued", ago_s=100, cause="preempted", step=300)
    run.started(ago_s=50).resumed(200, ago_s=40)
    assert lost_steps(history(run).attempts) == [0, 100, 0]


def test_what_is_saved_is_what_the_newest_attempt_found_whole(farm: Any) -> None:
    run = (
        farm.run()
        .submitted(ago_s=1000)
        .started(ago_s=900)
        .checkpoint(100, ago_s=700)
        .checkpoint(200, ago_s=600)
    )
    began = history(run)
    assert began.saved is not None
    assert began.saved.step == 200
    back = history(run.started(ago_s=500).resumed(100, ago_s=490))
    assert back.saved is not None
    assert back.saved.step == 100
    assert (began.saved.t - back.saved.t).total_seconds() == 100, "its age is that of the checkpoint"
    assert history(run.started(ago_s=400).resumed(0, ago_s=390)).saved is None, "all were damaged"
    anew = history(run.checkpoint(50, ago_s=300)).saved
    assert anew is not None
    assert anew.step == 50


def test_open_attempt_closes_with_its_last_word(farm: Any) -> None:
    run = interrupted(farm)
    assert history(run).open_attempt is not None
    assert history(run.event("completed", step=400)).open_attempt is None


def test_only_the_newest_preflight_counts(farm: Any) -> None:
    run = farm.run()
    run.event(
        "preflight", side="node", ok=False, findings=[{"check": "gpu", "status": "fail", "saw": "none"}]
    )
    run.event("preflight", side="node", ok=True, findings=[])
    run.event(
        "preflight", side="login", ok=True, findings=[{"check": "disk", "status": "warn", "saw": "9 GiB"}]
    )
    assert [(f["check"], f["side"]) for f in history(run).findings] == [("disk", "login")]


def test_the_job_is_the_newest_one(farm: Any) -> None:
    told = history(interrupted(farm).event("submitted", job_id="10", executor="slurm", host="login"))
    assert (told.job_id, told.submitted) == ("10", dt.datetime(2026, 11, 22, 11, 43, 20, tzinfo=dt.UTC))


def test_steps_that_a_killed_attempt_was_seen_to_take_are_lost(farm: Any) -> None:
    run = farm.run().event("submitted", ago_s=100, job_id="9", executor="slurm", host="login")
    run.started(ago_s=90).checkpoint(1500, ago_s=60)
    run.started(ago_s=50).event("resumed", ago_s=40, step=1500, repeats=76)
    assert lost_steps(history(run).attempts) == [76, 0]


def test_what_was_saved_is_not_lost_while_the_next_attempt_has_not_resumed_yet(farm: Any) -> None:
    run = farm.run().submitted(ago_s=900).started(ago_s=800).checkpoint(271, ago_s=700)

    def losses() -> list[int]:
        return lost_steps(history(run).attempts)

    run.started(ago_s=600)
    assert losses() == [0, 0]
    run.started(ago_s=500)  # the second was killed before it could resume
    run.event("resumed", ago_s=490, step=271, repeats=4)
    assert losses() == [4, 0, 0]
    run.started(ago_s=400).event("resumed", ago_s=390, step=200, repeats=0)
    assert losses() == [4, 0, 71, 0]
